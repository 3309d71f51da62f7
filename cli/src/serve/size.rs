//! Sizes as people write them.

/// Bytes of `64M`, `1G`, `4096`.
///
/// # Errors
///
/// A sentence that says what a size looks like.
pub fn parse(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let plain = upper.trim_end_matches("IB").trim_end_matches('B');
    let (digits, shift) = match plain.chars().last() {
        Some('K') => (plain.trim_end_matches('K'), 10),
        Some('M') => (plain.trim_end_matches('M'), 20),
        Some('G') => (plain.trim_end_matches('G'), 30),
        Some('T') => (plain.trim_end_matches('T'), 40),
        _ => (plain, 0),
    };
    let number: Option<u64> = digits.parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "a size is a number with K, M, G or T behind it, as in 64M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [("4096", 4096), ("64M", 64 << 20), ("1g", 1 << 30), ("2KiB", 2048)];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1.5G", "-1", "64X", "99999999999999T"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
