//! Finds the files of modules, and the order in which they must be loaded.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::kernel::Kernel;
use super::process::capture;
use super::sandbox::Sandbox;
use crate::error::{Error, Result};

/// The kernel's index of modules.
#[derive(Debug)]
pub struct Modules {
    dir: PathBuf,
    /// For each module its file and the files that it needs, relative to `dir`.
    needs: HashMap<String, (String, Vec<String>)>,
    builtin: HashSet<String>,
}

/// Returns the module of a file: `a/b/vfio-pci.ko.xz` is the module `vfio_pci`.
fn name_of(file: &str) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

impl Modules {
    /// Reads the index of `kernel`. Returns it.
    pub fn of(kernel: &Kernel) -> Result<Self> {
        let dir = kernel.dir().join("modules").join(&kernel.release);
        let read = |file: &str| {
            let path = dir.join(file);
            fs::read_to_string(&path)
        };
        let mut needs = HashMap::new();
        for line in read("modules.dep")?.lines() {
            if let Some((file, others)) = line.split_once(':') {
                let others = others.split_whitespace().map(str::to_owned).collect();
                needs.insert(name_of(file), (file.to_owned(), others));
            }
        }
        // Newer kernels are packaged without the plain list. Their list has entries
        // `NAME.FIELD=VALUE`, terminated by NULs.
        let builtin = match read("modules.builtin") {
            Ok(list) => list.lines().map(name_of).collect(),
            Err(_) => {
                let list = read("modules.builtin.modinfo")?;
                list.split('\0')
                    .filter_map(|field| Some(field.split_once('.')?.0.replace('-', "_")))
                    .collect()
            }
        };
        Ok(Self { dir, needs, builtin })
    }

    /// Returns the files to load for `wanted`, each after the files it needs. Built-in modules need
    /// none.
    pub fn closure(&self, wanted: &[String]) -> Result<Vec<PathBuf>> {
        let mut order: Vec<String> = Vec::new();
        for name in wanted.iter().map(|name| name.replace('-', "_")) {
            if self.builtin.contains(&name) {
                continue;
            }
            let (file, needs) = self.needs.get(&name).ok_or_else(|| {
                Error::other(format!("this kernel has no module {name} ({})", self.dir.display()))
            })?;
            // modules.dep lists the direct dependency first; its last entry must be loaded first.
            for file in needs.iter().rev().chain([file]) {
                if !order.contains(file) {
                    order.push(file.clone());
                }
            }
        }
        Ok(order.into_iter().map(|file| self.dir.join(file)).collect())
    }
}

/// Returns the name under which a module's file is loaded, uncompressed: `vfio-pci.ko`.
pub fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".xz").trim_end_matches(".zst").to_owned()
}

/// Returns a module's content, uncompressed by the root's tools and kept in the kernel's directory.
pub fn content(tools: &Path, kernel: &Kernel, path: &Path) -> Result<Vec<u8>> {
    let compressed = path.extension().is_some_and(|end| end == "xz" || end == "zst");
    let plain = kernel.dir().join("plain").join(file_name(path));
    if compressed && !plain.is_file() {
        let program = if path.extension().is_some_and(|end| end == "xz") { "xz" } else { "zstd" };
        let inside = path.strip_prefix(kernel.dir().join("modules")).unwrap_or(path);
        let sandbox = Sandbox::new(tools).bind(kernel.dir(), "lab/kernel");
        let mut command = sandbox.command("sh");
        // Written under a temporary name and renamed, because another guest may be starting.
        command.args(["-ec", r#"mkdir -p /lab/kernel/plain; "$1" -dc "/lab/kernel/modules/$2" >"/lab/kernel/plain/$3.$$"; mv "/lab/kernel/plain/$3.$$" "/lab/kernel/plain/$3""#, "sh", program]);
        command.arg(inside).arg(file_name(path));
        capture(command, "uncompressing a module")?;
    }
    let path = if compressed { &plain } else { path };
    Ok(fs::read(path)?)
}
