//! Puts programs into a guest. A dynamically linked program brings its loader and libraries.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use object::LittleEndian;
use object::elf::{EM_X86_64, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

use super::process::capture;
use super::sandbox::Sandbox;
use super::shell::quote;
use crate::error::{Error, Result};

/// Where programs are found in a guest.
const BIN: &str = "lab/bin";

/// Where the loader and the libraries of dynamically linked programs are, a directory for each.
const DYNAMIC: &str = "lab/dynamic";

/// Paths in a guest with their contents.
pub type Files = Vec<(String, Vec<u8>)>;

/// Gets the files that `program` needs in a guest: the program, its loader and its libraries.
/// Returns them.
///
/// A script of the program's name runs it with its own loader and libraries. So a dynamically
/// linked program works without a root, and in a root with other libraries.
pub fn files(program: &Path, root: &Path) -> Result<Files> {
    let bytes = fs::read(program)?;
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let loader = match kind(&bytes) {
        Kind::Plain => return Ok(vec![(format!("{BIN}/{name}"), bytes)]),
        Kind::Foreign => {
            return Err(Error::other(format!(
                "{} is not a program for x86-64, and the guest's processor runs no other",
                program.display()
            )));
        }
        Kind::Dynamic(loader) => loader,
    };
    let libraries = libraries(program, &loader, root)?;
    let own = format!("{DYNAMIC}/{name}");
    let mut files = vec![
        (format!("{BIN}/{name}"), script(&name, &own, &loader).into_bytes()),
        (format!("{own}/{name}"), bytes),
    ];
    for (wanted, path) in libraries {
        let bytes = fs::read(&path)?;
        files.push((format!("{own}/lib/{wanted}"), bytes));
    }
    Ok(files)
}

fn script(name: &str, own: &str, loader: &str) -> String {
    let (program, loader) = (quote(&format!("/{own}/{name}")), file_name(loader));
    let lib = quote(&format!("/{own}/lib"));
    format!("#!/bin/sh\nexec {lib}/{loader} --library-path {lib} --argv0 \"$0\" {program} \"$@\"\n")
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The kind of a file in a guest.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A script, data, or a statically linked program.
    Plain,
    /// A program that the loader at this path starts.
    Dynamic(String),
    /// A program for another kind of processor.
    Foreign,
}

/// Reads the headers of an ELF file. Returns its kind.
fn kind(bytes: &[u8]) -> Kind {
    if !bytes.starts_with(b"\x7fELF") {
        return Kind::Plain;
    }
    let header = FileHeader64::<LittleEndian>::parse(bytes)
        .ok()
        .filter(|header| header.endian().is_ok() && header.e_machine(LittleEndian) == EM_X86_64);
    let Some(header) = header else { return Kind::Foreign };
    let segments = header.program_headers(LittleEndian, bytes).unwrap_or_default();
    let interpreter =
        segments.iter().find_map(|segment| segment.interpreter(LittleEndian, bytes).ok().flatten());
    interpreter.map_or(Kind::Plain, |path| Kind::Dynamic(String::from_utf8_lossy(path).into()))
}

/// Finds the loader of `program` and its libraries, on this machine or else in `root`. Returns the
/// wanted names and the paths.
fn libraries(program: &Path, loader: &str, root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut reasons = Vec::new();
    let here = Path::new(loader).exists().then(|| {
        let mut list = Command::new(loader);
        list.arg("--list").arg(program);
        (list, Path::new("/"), "this machine")
    });
    let in_root = inside(root, loader).exists().then(|| {
        let dir = program.parent().filter(|dir| !dir.as_os_str().is_empty());
        let sandbox = Sandbox::new(root).bind(dir.unwrap_or(Path::new(".")), "build/stage");
        let mut list = sandbox.command(loader);
        let name = program.file_name().unwrap_or_default();
        list.arg("--list").arg(Path::new("/build/stage").join(name));
        (list, root, "the lab's root")
    });
    for (list, top, place) in here.into_iter().chain(in_root) {
        let listed = capture(list, "asking a loader for a program's libraries");
        match listed.map_err(|error| error.to_string()).and_then(|text| parse(&text)) {
            Ok(found) => {
                let loader = (file_name(loader).to_owned(), loader.to_owned());
                let all = found.into_iter().filter(|(name, _)| *name != loader.0);
                let all = all.chain([loader.clone()]);
                return Ok(all.map(|(name, path)| (name, inside(top, &path))).collect());
            }
            Err(reason) => reasons.push(format!("\n{place}: {reason}")),
        }
    }
    if reasons.is_empty() {
        reasons.push(format!(
            "\nits loader {loader} is neither on this machine nor in the lab's root"
        ));
    }
    Err(Error::other(format!(
        "{} is dynamically linked, and a guest has no libraries: they were looked for to go with it.{}\n\
         Link it statically (for Rust: RUSTFLAGS=-Ctarget-feature=+crt-static)",
        program.display(),
        reasons.concat()
    )))
}

/// Gets where `path` is below `top`. Follows its links itself, since an absolute link in a root
/// refers to the root's own top.
fn inside(top: &Path, path: &str) -> PathBuf {
    let mut found = top.join(path.trim_start_matches('/'));
    for _ in 0..8 {
        match fs::read_link(&found) {
            Ok(to) if to.is_absolute() => found = top.join(to.strip_prefix("/").unwrap_or(&to)),
            Ok(to) => found = found.parent().unwrap_or(top).join(to),
            Err(_) => break,
        }
    }
    found
}

/// Parses a loader's list: `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)`. Returns the names and
/// paths, or the line that names a missing library as the error.
fn parse(listed: &str) -> std::result::Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for line in listed.lines().map(str::trim) {
        if line.contains("not found") {
            return Err(line.to_owned());
        }
        let (name, rest) = line.split_once(" => ").unwrap_or((line, line));
        let path = rest.split(" (0x").next().unwrap_or(rest);
        // The vDSO (linux-vdso.so.1) has no path.
        if path.starts_with('/') {
            found.push((
                file_name(name.split(" (0x").next().unwrap_or(name)).to_owned(),
                path.to_owned(),
            ));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Kind, files, kind, parse, script};

    /// Returns an ELF file with one program header.
    fn elf(machine: u8, header: u8, interpreter: &str) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        (bytes[18], bytes[32], bytes[54], bytes[56]) = (machine, 64, 56, 1);
        let size = u8::try_from(interpreter.len() + 1).unwrap();
        (bytes[64], bytes[64 + 8], bytes[64 + 32]) = (header, 120, size);
        bytes.extend_from_slice(interpreter.as_bytes());
        bytes.push(0);
        bytes
    }

    #[test]
    fn a_program_says_how_it_is_linked() {
        assert_eq!(kind(&elf(62, 3, "/lib/ld.so")), Kind::Dynamic("/lib/ld.so".to_owned()));
        assert_eq!(kind(&elf(62, 1, "")), Kind::Plain);
        assert_eq!(kind(&elf(183, 3, "/lib/ld.so")), Kind::Foreign);
        assert_eq!(kind(b"#!/bin/sh\n"), Kind::Plain);
    }

    #[test]
    fn a_loaders_list_is_read() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
        let pair = |name: &str, path: &str| (name.to_owned(), path.to_owned());
        let wanted = [pair("libc.so.6", "/lib/x/libc.so.6"), pair("ld.so.2", "/lib64/ld.so.2")];
        assert_eq!(parse(listed).unwrap(), wanted);
        assert_eq!(parse("\tlibx.so.1 => not found\n").unwrap_err(), "libx.so.1 => not found");
        assert_eq!(parse("\tstatically linked\n").unwrap(), []);
    }

    /// On machines with a shared C library, cargo links this test dynamically.
    #[test]
    fn a_dynamic_program_brings_its_libraries() {
        let program = std::env::current_exe().unwrap();
        let Kind::Dynamic(loader) = kind(&std::fs::read(&program).unwrap()) else {
            return;
        };
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        let files = files(&program, Path::new("/nonexistent")).unwrap();
        let has = |path: String| files.iter().any(|(there, _)| *there == path);
        assert!(has(format!("lab/bin/{name}")) && has(format!("lab/dynamic/{name}/{name}")));
        let loader = PathBuf::from(loader).file_name().unwrap().to_string_lossy().into_owned();
        assert!(has(format!("lab/dynamic/{name}/lib/{loader}")));
        assert!(has(format!("lab/dynamic/{name}/lib/libc.so.6")));
        let script = script("p", "lab/dynamic/p", "/lib64/ld.so.2");
        assert!(
            script.contains("exec /lab/dynamic/p/lib/ld.so.2 --library-path /lab/dynamic/p/lib")
        );
    }

    #[test]
    fn a_program_whose_libraries_are_nowhere_is_refused_in_words() {
        let dir = std::env::temp_dir().join(format!("vfio-irq-program-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let program = dir.join("tool");
        std::fs::write(&program, elf(62, 3, "/nonexistent/ld.so")).unwrap();
        let said = files(&program, Path::new("/nonexistent")).unwrap_err().to_string();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(said.contains("tool is dynamically linked"), "{said}");
        assert!(said.contains("its loader /nonexistent/ld.so is neither"), "{said}");
        assert!(said.contains("Link it statically"), "{said}");
    }
}
