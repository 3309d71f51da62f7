//! Words of a shell.

/// Quotes `text` so that a shell takes it as one word.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=./:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quoting_keeps_words_whole() {
        assert_eq!(quote("plain-1.0"), "plain-1.0");
        assert_eq!(quote("it's a"), r"'it'\''s a'");
        assert_eq!(quote(""), "''");
    }
}
