//! Builds the guest's first file system: busybox, the modules to load, the command, and added
//! files.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::cpio::Cpio;
use super::kernel::Kernel;
use super::modules::{Modules, content, file_name};
use super::program;
use super::shell::quote;
use crate::error::Result;

/// The first program of every guest.
const INIT: &str = include_str!("init.sh");

/// Binds a device to a driver; init uses it, and the command may.
const BIND: &str = include_str!("bind.sh");

/// The content of an image.
#[derive(Debug, Default, Clone)]
pub struct Image {
    /// Modules (names, or paths of .ko files) that are loaded before devices are bound, with their
    /// dependencies.
    pub modules: Vec<String>,
    /// Modules that are loaded after the devices are bound.
    pub modules_after: Vec<String>,
    /// `MODULE.PARAMETER=VALUE`, as on a kernel command line.
    pub parameters: Vec<String>,
    /// Files of this machine: each becomes an executable in /lab/bin. A dynamically linked file
    /// brings its libraries.
    pub put: Vec<PathBuf>,
    /// Generated files: path in the guest, content.
    pub files: Vec<(String, Vec<u8>)>,
    /// Variables of init and of the command.
    pub variables: Vec<(String, String)>,
    /// The command, a shell script.
    pub command: String,
}

impl Image {
    /// Makes the archive for `kernel`, with programs of the root `tools`. Returns it.
    pub fn build(&self, tools: &Path, kernel: &Kernel) -> Result<Vec<u8>> {
        let mut cpio = Cpio::default();
        for dir in ["proc", "sys", "dev", "tmp", "root", "bin", "lab/bin", "lab/modules"] {
            cpio.dir(dir)?;
        }
        let busybox = tools.join("usr/bin/busybox");
        cpio.file("bin/busybox", 0o755, &fs::read(&busybox)?)?;
        cpio.symlink("bin/sh", "busybox")?;
        cpio.file("init", 0o755, INIT.as_bytes())?;
        cpio.file("lab/bin/vfio-bind", 0o755, BIND.as_bytes())?;
        self.add_modules(&mut cpio, tools, kernel)?;
        for path in &self.put {
            for (path, bytes) in program::files(path, tools)? {
                cpio.file(&path, 0o755, &bytes)?;
            }
        }
        for (path, bytes) in &self.files {
            cpio.file(path, 0o755, bytes)?;
        }
        let exports: String = self
            .variables
            .iter()
            .map(|(name, value)| format!("export {name}={}\n", quote(value)))
            .collect();
        cpio.file("lab/config", 0o644, exports.as_bytes())?;
        cpio.file("lab/command", 0o755, self.command.as_bytes())?;
        cpio.finish()
    }

    fn add_modules(&self, cpio: &mut Cpio, tools: &Path, kernel: &Kernel) -> Result<()> {
        let index = Modules::of(kernel)?;
        let mut there = Vec::new();
        for (list, wanted) in [("lab/load", &self.modules), ("lab/load-after", &self.modules_after)]
        {
            let mut lines = String::new();
            for path in self.files_of(&index, wanted)? {
                let name = file_name(&path);
                let parameters = self.parameters_of(&name);
                lines.push_str(&format!("{name} {parameters}\n"));
                if !there.contains(&name) {
                    cpio.file(
                        &format!("lab/modules/{name}"),
                        0o644,
                        &content(tools, kernel, &path)?,
                    )?;
                    there.push(name);
                }
            }
            cpio.file(list, 0o644, lines.as_bytes())?;
        }
        Ok(())
    }

    /// Returns the files of `wanted` in order; a module given as a path keeps its position in the
    /// list.
    fn files_of(&self, index: &Modules, wanted: &[String]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in wanted {
            let found = if name.contains('/') {
                vec![PathBuf::from(name)]
            } else {
                index.closure(std::slice::from_ref(name))?
            };
            for file in found {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }

    fn parameters_of(&self, file: &str) -> String {
        let name = file.trim_end_matches(".ko").replace('-', "_");
        let own = |text: &String| -> Option<String> {
            let (module, parameter) = text.split_once('.')?;
            (module.replace('-', "_") == name).then(|| parameter.to_owned())
        };
        self.parameters.iter().filter_map(own).collect::<Vec<_>>().join(" ")
    }
}
