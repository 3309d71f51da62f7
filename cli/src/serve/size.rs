//! Parses and formats sizes.

use vfio_irq_nvme_device::BLOCK;

const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];
/// The system counts the bytes of a file with a signed integer.
const MOST: u64 = i64::MAX.unsigned_abs();

/// Parses the size of a disk: `64M`, `1G`, `4096`. Returns bytes.
///
/// # Errors
///
/// A sentence with a valid size.
pub fn parse(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let plain = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let unit = UNITS.iter().find_map(|(unit, shift)| Some((plain.strip_suffix(*unit)?, *shift)));
    let (digits, shift) = unit.unwrap_or((plain, 0));
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: Option<u64> = digits.parse().ok().filter(|_| is_number);
    let Some(number) = number else {
        return Err("a size is a number with K, M, G or T behind it, as in 64M".to_owned());
    };
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes <= MOST);
    match bytes {
        None => Err(format!("a disk has {MOST} bytes at most, as in 64M")),
        Some(bytes) if bytes > 0 && bytes.is_multiple_of(BLOCK) => Ok(bytes),
        // Without a unit, most users mean MiB.
        Some(bytes) => {
            let unit = if unit.is_none() && number > 0 { number } else { 64 };
            Err(format!(
                "{bytes} bytes are no disk: the size is a multiple of {BLOCK}; {unit}M is one"
            ))
        }
    }
}

/// Formats a size in the largest unit that is exact.
pub fn words(bytes: u64) -> String {
    let exact = |(_, shift): &&(char, u32)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift);
    match UNITS.iter().find(exact) {
        Some((unit, shift)) => format!("{} {unit}iB", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, words};

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [("4096", 4096), ("64M", 64 << 20), ("1g", 1 << 30), ("2KiB", 2048)];
        for (text, bytes) in cases.into_iter().chain([("512B", 512), ("1GB", 1 << 30)]) {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1.5G", "-1", "+1M", "64X", "99999999999999T", "1MBB", "1MM", "9Q"] {
            assert!(parse(text).unwrap_err().contains("64M"), "{text}");
        }
        assert_eq!(
            parse("64").unwrap_err(),
            "64 bytes are no disk: the size is a multiple of 512; 64M is one"
        );
        assert!(parse("0").unwrap_err().ends_with("; 64M is one"));
    }

    #[test]
    fn sizes_are_said_exactly() {
        let said = [512, 1536, 1 << 20, 3 << 30, 5 << 40].map(words);
        assert_eq!(said, ["512 bytes", "1536 bytes", "1 MiB", "3 GiB", "5 TiB"]);
        assert_eq!(words(2048), "2 KiB");
    }
}
