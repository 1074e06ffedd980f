//! Numbers that must not be typed here: a card's, in whatever field of whatever form.
//!
//! Thirteen to nineteen digits, with spaces or hyphens between them, whose check digit is right. Nothing
//! else that members type here looks so; who is refused wrongly is told why.

use std::collections::BTreeMap;

/// Whether some field holds what looks like the number of a card.
pub(crate) fn holds_card_number(form: &BTreeMap<String, String>) -> bool {
    form.values().any(|it| looks_like_card(it))
}

fn looks_like_card(text: &str) -> bool {
    let mut digits: Vec<u32> = Vec::new();
    for letter in text.chars().chain(['.']) {
        match letter.to_digit(10) {
            Some(digit) => digits.push(digit),
            // As people write them, and as Japanese keyboards do.
            None if !digits.is_empty() && matches!(letter, ' ' | '-' | '\u{3000}' | '‐' | '－') =>
                {}
            None => match wide_digit(letter) {
                Some(digit) => digits.push(digit),
                None => {
                    if (13..=19).contains(&digits.len()) && checks(&digits) {
                        return true;
                    }
                    digits.clear();
                }
            },
        }
    }
    false
}

fn wide_digit(letter: char) -> Option<u32> {
    u32::from(letter)
        .checked_sub(u32::from('０'))
        .filter(|it| *it < 10)
}

/// The check digit of ISO/IEC 7812-1, annex B.
fn checks(digits: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(nth, digit)| {
            if nth % 2 == 1 {
                doubled(*digit)
            } else {
                *digit
            }
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|it| *it != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_cards_are_told_from_others() {
        for (text, is_card) in [
            ("4242424242424242", true),
            ("my card is 4242 4242 4242 4242, thanks", true),
            ("4242-4242-4242-4242", true),
            ("４２４２４２４２４２４２４２４２", true),
            ("378282246310005", true),
            ("4242424242424243", false),
            ("000-0000-0001", false),
            ("0000000000000000", false),
            ("090-1234-5678", false),
            ("order samplehanako1 of 2026-11-01", false),
            ("1794000000000", false),
            ("", false),
        ] {
            assert_eq!(looks_like_card(text), is_card, "{text}");
        }
    }
}
