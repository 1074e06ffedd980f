//! From when until when a certificate is valid (RFC 5280 4.1.2.5).
//!
//! Whoever verifies certificates checks this; here it is read only to say beforehand when one ends. So
//! what cannot be read is no fault, and nothing is decided by it.

/// Seconds since 1970 of the first and last instant at which a certificate in DER is valid.
pub(super) fn validity(certificate: &[u8]) -> Option<(u64, u64)> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const VERSION: u8 = 0xa0;
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = element(fields, tag)?.1;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (from, rest) = instant(validity)?;
    let (until, _) = instant(rest)?;
    Some((from, until))
}

/// The content of the element at the front, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            if digits.is_empty() || digits.len() > 4 {
                return None;
            }
            let length = digits
                .iter()
                .fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
            (length, rest)
        }
    };
    rest.split_at_checked(length)
}

/// A time: `YYMMDDhhmmssZ`, or `YYYYMMDDhhmmssZ`.
fn instant(bytes: &[u8]) -> Option<(u64, &[u8])> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let (year_digits, (text, rest)) = match element(bytes, UTC_TIME) {
        Some(found) => (2, found),
        None => (4, element(bytes, GENERALIZED_TIME)?),
    };
    let digits = text.strip_suffix(b"Z")?;
    if digits.len() != year_digits + 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |from: usize, to: usize| {
        digits[from..to]
            .iter()
            .fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'))
    };
    let year = match (year_digits, number(0, year_digits)) {
        (2, year @ 50..) => 1900 + year,
        (2, year) => 2000 + year,
        (_, year) => year,
    };
    let part = |n: usize| number(year_digits + 2 * n, year_digits + 2 * n + 2);
    let days = days_since_1970(year, part(0), part(1))?;
    Some((
        days * 86_400 + part(2) * 3_600 + part(3) * 60 + part(4),
        rest,
    ))
}

/// Days from 1970-01-01 to a date; none for earlier ones.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March end with the leap day.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // Of 1970-01-01, counted the same way.
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        for (year, month, day, expected) in [
            (1970, 1, 1, Some(0)),
            (1970, 3, 1, Some(59)),
            (2000, 2, 29, Some(11_016)),
            (2024, 2, 29, Some(19_782)),
            (2024, 3, 1, Some(19_783)),
            (9999, 12, 31, Some(2_932_896)),
            (1969, 12, 31, None),
            (2024, 13, 1, None),
            (2024, 0, 1, None),
        ] {
            assert_eq!(
                days_since_1970(year, month, day),
                expected,
                "{year}-{month}-{day}"
            );
        }
    }

    #[test]
    fn both_forms_of_a_time() {
        let utc = b"\x17\x0d260101120000Z!";
        assert_eq!(instant(utc), Some((1_767_268_800, &b"!"[..])));
        let generalized = b"\x18\x0f20500101120000Z";
        assert_eq!(instant(generalized), Some((2_524_651_200, &b""[..])));
        for wrong in [
            &b"\x17\x0d26010112000xZ"[..],
            b"\x17\x0c26010112000Z",
            b"\x04\x00",
            b"",
        ] {
            assert_eq!(instant(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn of_a_certificate_and_of_none() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["shop.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2051, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der();
        assert_eq!(validity(der), Some((1_767_225_600, 2_556_144_000)));
        for length in 0..der.len() {
            // Never a panic; mostly nothing.
            assert!(validity(&der[..length]).is_none_or(|found| found.1 > found.0));
        }
    }
}
