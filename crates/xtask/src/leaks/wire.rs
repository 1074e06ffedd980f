//! HTTP/1.1 as bytes: just enough to read a message and to know where it ends.
//!
//! Written anew and leniently on purpose: what judges a cache shares no code with it, and an origin
//! of the field reads what a strict parser refuses.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A message's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The first line.
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.field("transfer-encoding")
            .is_some_and(|v| v.to_ascii_lowercase().contains("chunked"))
    }

    pub(crate) fn length(&self) -> Option<usize> {
        self.field("content-length")
            .and_then(|v| v.trim().parse().ok())
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection")
            .is_some_and(|v| v.to_ascii_lowercase().contains("close"))
    }
}

/// Bytes as they come, and all that have come.
pub(crate) struct Incoming {
    stream: TcpStream,
    buffer: Vec<u8>,
    at: usize,
    deadline: Instant,
}

impl Incoming {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            at: 0,
            deadline: Instant::now(),
        }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Nothing is waited for after this.
    pub(crate) fn until(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// What was taken since the last call.
    pub(crate) fn taken(&mut self) -> Vec<u8> {
        let rest = self.buffer.split_off(self.at);
        self.at = 0;
        std::mem::replace(&mut self.buffer, rest)
    }

    /// How many bytes have come that were not taken.
    #[cfg(test)]
    pub(crate) fn rest(&self) -> usize {
        self.buffer.len() - self.at
    }

    /// Waits a few milliseconds, and says whether nothing has come that was not taken.
    #[cfg(test)]
    pub(crate) fn is_silent(&mut self) -> io::Result<bool> {
        if self.buffer.len() > self.at {
            return Ok(false);
        }
        self.until(Instant::now() + Duration::from_millis(5));
        match self.more() {
            Ok(true) => Ok(false),
            Ok(false) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(true),
                _ => Err(error),
            },
        }
    }

    /// All that has come, taken or not.
    pub(crate) fn everything(&mut self) -> Vec<u8> {
        self.at = self.buffer.len();
        self.taken()
    }

    /// Waits for more; `false` at the end.
    pub(crate) fn more(&mut self) -> io::Result<bool> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut chunk = [0; 16 << 10];
        let read = loop {
            match self.stream.read(&mut chunk) {
                // A signal is no answer, and no end.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read > 0)
    }

    fn need(&mut self) -> io::Result<()> {
        if self.more()? {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer[self.at..].iter().position(|b| *b == b'\n') {
                let line =
                    String::from_utf8_lossy(&self.buffer[self.at..self.at + end]).into_owned();
                self.at += end + 1;
                return Ok(line.trim_end_matches('\r').to_owned());
            }
            self.need()?;
        }
    }

    pub(crate) fn head(&mut self) -> io::Result<Head> {
        let mut head = Head::default();
        while head.first.is_empty() {
            head.first = self.line()?;
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(head);
            }
            if let Some((name, value)) = line.split_once(':') {
                head.fields
                    .push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
    }

    pub(crate) fn exactly(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() - self.at < bytes {
            self.need()?;
        }
        let body = self.buffer[self.at..self.at + bytes].to_vec();
        self.at += bytes;
        Ok(body)
    }

    /// A chunked body without its framing, with its trailer section behind it.
    pub(crate) fn chunked(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.line()?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if size == 0 {
                loop {
                    let trailer = self.line()?;
                    if trailer.is_empty() {
                        return Ok(body);
                    }
                    body.extend(format!("\r\n{trailer}").into_bytes());
                }
            }
            body.extend(self.exactly(size)?);
            self.line()?;
        }
    }

    pub(crate) fn until_the_end(&mut self) -> io::Result<Vec<u8>> {
        while self.more()? {}
        let body = self.buffer[self.at..].to_vec();
        self.at = self.buffer.len();
        Ok(body)
    }
}

/// A date as HTTP writes it (RFC 9110 5.6.7), so many seconds from now.
pub(crate) fn http_date(from_now: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let seconds = i64::try_from(now).unwrap_or(0) + from_now;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let weekday = weekday[usize::try_from(days.rem_euclid(7)).expect("below 7")];
    // Days to a civil date, with years that begin in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 2
    } else {
        march_month - 10
    };
    let year = year_of_era + era * 400 + i64::from(month < 2);
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = months[usize::try_from(month).expect("below 12")];
    format!(
        "{weekday}, {day:02} {month} {year:04} {:02}:{:02}:{:02} GMT",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}
