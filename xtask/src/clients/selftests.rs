//! Linux's own selftests of VFIO, from the sources of the kernel that runs them.

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::error::{Error, Result};
use crate::lab::cache::{Cache, hash, remove_tree};
use crate::lab::kernel::{Kernel, Series, download_sources, unpack_sources};
use crate::lab::process::{Step, follow};
use crate::lab::root;
use crate::lab::sandbox::Sandbox;

/// The sources of the tests. The headers of drivers are targets of symbolic links in the tests'
/// sources. The rest makes the kernel's headers for user space.
const SOURCES: [&str; 15] = [
    "Makefile",
    "Kbuild",
    "Kconfig",
    "arch/x86",
    "drivers/dma/*/*.h",
    "drivers/net/ethernet/intel/igb/*.h",
    "include",
    "scripts",
    "tools/arch",
    "tools/include",
    "tools/scripts",
    "tools/testing/selftests/*.h",
    "tools/testing/selftests/lib.mk",
    "tools/testing/selftests/vfio",
    "usr",
];

/// Sets the tests' default mode, for which they have no option.
const DEFAULT_MODE: &str = include_str!("default_mode.c");

/// Builds the kernel's headers for user space, then the tests as their Makefile builds them.
/// They are linked statically, since guests have no libraries.
const BUILD: &str = r#"
cd /build/stage/linux
gcc=x86_64-linux-gnu-gcc-14
make ARCH=x86 CC=$gcc HOSTCC=$gcc headers
mkdir /build/stage/out
$gcc -Wall -Wextra -Werror -c /build/stage/default_mode.c -o /build/stage/out/default_mode.o
LDFLAGS="-static /build/stage/out/default_mode.o" \
    make -C tools/testing/selftests/vfio ARCH=x86 CC=$gcc OUTPUT=/build/stage/out
strip /build/stage/out/*_test
mv /build/stage/out/*_test /build/stage
"#;

/// Builds the tests of the kernel of `series`. Returns their paths.
pub fn build(cache: &Cache, series: Series) -> Result<Vec<PathBuf>> {
    let root = root::Kind::Clients.obtain(cache)?;
    let kernel = Kernel::obtain(cache, series)?;
    let recipe = format!(
        "selftests {} {} {SOURCES:?} {DEFAULT_MODE} {BUILD}",
        kernel.release,
        hash(root.made_from())
    );
    let made = cache.obtain(&format!("selftests-{series}"), &recipe, |dir| {
        let names = download_sources(series, &kernel, &dir.join("work"))?;
        let sandbox = Sandbox::new(root.path()).bind(dir, "build/stage");
        fs::create_dir_all(dir.join("linux"))?;
        let mut choice = ["--wildcards", "--no-wildcards-match-slash"].map(str::to_owned).to_vec();
        choice.extend(SOURCES.map(|path| format!("linux-source-{series}/{path}")));
        unpack_sources(series, &sandbox, "/build/stage/work", "/build/stage/linux", &choice)?;
        let source = dir.join("default_mode.c");
        fs::write(&source, DEFAULT_MODE)?;
        let step = Step::start("Building the kernel's selftests of VFIO", None);
        let mut make = sandbox.command("sh");
        make.args(["-ec", BUILD]);
        follow(make, "building the kernel's selftests of VFIO", |line| step.note(line))?;
        for used in ["work", "linux", "out", "default_mode.c"] {
            remove_tree(&dir.join(used))?;
        }
        Ok(names)
    })?;
    programs(made.path())
}

fn programs(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?;
    let mut programs: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with("_test"))
        .collect();
    programs.sort();
    if programs.is_empty() {
        return Err(Error::other("the kernel's sources have no selftests of VFIO"));
    }
    Ok(programs)
}
