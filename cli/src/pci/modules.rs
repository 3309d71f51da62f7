//! Finds the kernel modules that match a function.

use super::System;
use crate::pci::Bdf;
use std::path::Path;

/// Drivers that hand functions to user space match every function, if they are requested by name.
const VFIO: &str = "vfio_pci:";

/// Finds modules of the running kernel whose alias matches a function, in the order of modules.alias.
pub fn wanting(system: &System, bdf: Bdf) -> Vec<String> {
    let wanted = system.text(bdf.directory().join("modalias")).unwrap_or_default();
    let release = system.text("proc/sys/kernel/osrelease").unwrap_or_default();
    let at = Path::new("lib/modules").join(release).join("modules.alias");
    let aliases = system.text(at).unwrap_or_default();
    let mut found: Vec<String> = Vec::new();
    for line in aliases.lines() {
        let mut words = line.split_whitespace();
        let (Some("alias"), Some(pattern), Some(module)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let is_new = || !found.iter().any(|known| known == module);
        if !pattern.starts_with(VFIO) && matches(pattern.as_bytes(), wanted.as_bytes()) && is_new()
        {
            found.push(module.to_owned());
        }
    }
    found
}

/// Returns true if a module is loaded or built in.
pub fn is_loaded(system: &System, module: &str) -> bool {
    system.has(Path::new("sys/module").join(module.replace('-', "_")))
}

/// Returns true if a pattern with stars matches all of a text.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Position of the last star, and how much of the text it matches so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == text.get(t) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_take_what_they_need() {
        let alias = "pci:v00008086d000010C9sv*sd*bc*sc*i*";
        let is = |text: &str| matches(alias.as_bytes(), text.as_bytes());
        assert!(is("pci:v00008086d000010C9sv00001AF4sd00001100bc02sc00i00"));
        assert!(!is("pci:v00008086d000010CAsv00001AF4sd00001100bc02sc00i00"));
        for (pattern, text, matched) in [
            ("*", "", true),
            ("", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "abX", false),
            ("a", "", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), matched, "{pattern} {text}");
        }
    }
}
