//! Queries Debian's archive through apt with directories of its own. Nothing is installed on the
//! machine, its package database is neither read nor written, and no privilege is needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use super::process::{Step, capture, follow, require_tools};
use crate::error::{Error, Result};

/// Packages that come from a newer suite than the rest of the root.
pub struct Pin {
    /// Names, as apt's preferences take them (globs).
    pub packages: &'static str,
    /// The suite's codename.
    pub suite: &'static str,
}

/// Suites of the mirror that this machine's apt uses.
pub struct Archive {
    dir: PathBuf,
    suites: String,
}

impl Archive {
    /// Fetches the indexes of `suites` into `dir`.
    pub fn open(dir: &Path, suites: &[&str], pins: &[Pin]) -> Result<Self> {
        require_tools()?;
        for name in ["state/lists/partial", "cache/archives/partial", "etc/parts"] {
            let path = dir.join(name);
            fs::create_dir_all(&path)?;
        }
        let mirror = mirror()?;
        let keyring = keyring()?;
        let sources: String = suites
            .iter()
            .map(|suite| {
                format!("deb [arch=amd64 signed-by={}] {mirror} {suite} main\n", keyring.display())
            })
            .collect();
        let preferences: String = pins
            .iter()
            .map(|pin| {
                format!(
                    "Package: {}\nPin: release n={}\nPin-Priority: 990\n\n",
                    pin.packages, pin.suite
                )
            })
            .collect();
        for (name, text) in [
            ("etc/sources.list", sources),
            ("etc/preferences", preferences),
            ("status", String::new()),
        ] {
            let path = dir.join(name);
            fs::write(&path, text)?;
        }
        let archive = Self { dir: dir.to_owned(), suites: suites.join(", ") };
        let step = Step::start(&format!("Reading Debian's index ({})", archive.suites), None);
        let mut update = archive.apt("apt-get");
        update.args(["-q", "update"]);
        follow(update, "reading the index of Debian's archive with apt-get", |line| {
            step.note(line)
        })?;
        Ok(archive)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        let places = [
            ("Dir::State", "state"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "etc/sources.list"),
            ("Dir::Etc::sourceparts", "etc/parts"),
            ("Dir::Etc::preferences", "etc/preferences"),
            ("Dir::Etc::preferencesparts", "etc/parts"),
            ("Dir::State::status", "status"),
        ];
        for (option, place) in places {
            command.arg("-o").arg(format!("{option}={}", self.dir.join(place).display()));
        }
        command.args([
            "-o",
            "APT::Sandbox::User=",
            "-o",
            "Acquire::Languages=none",
            "-o",
            "APT::Architecture=amd64",
        ]);
        command.args(["-o", "APT::Architectures=amd64", "-o", "Debug::NoLocking=1"]);
        command.args([
            "-o",
            "Acquire::Retries=3",
            "-o",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        ]);
        command
    }

    /// Returns the names of packages that start with `prefix`.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let mut command = self.apt("apt-cache");
        command.args(["pkgnames", prefix]);
        Ok(capture(command, "searching Debian's index with apt-cache")?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Downloads `packages` and all their dependencies.
    pub fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let mut command = self.apt("apt-get");
        command
            .args(["-q", "-y", "--no-install-recommends", "--download-only", "install"])
            .args(packages);
        self.download(command)
    }

    /// Downloads `packages` and all their dependencies, those of `suite` before those of others.
    pub fn download_from(&self, suite: &str, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let mut command = self.apt("apt-get");
        command.args(["-q", "-y", "--no-install-recommends", "--download-only"]);
        command.args(["--target-release", suite, "install"]).args(packages);
        self.download(command)
    }

    /// Downloads `packages` alone.
    pub fn download_alone(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        // `apt-get download` writes to its working directory.
        let mut command = self.apt("apt-get");
        command.current_dir(self.dir.join("cache/archives"));
        command.args(["-q", "download"]).args(packages);
        self.download(command)
    }

    fn download(&self, command: Command) -> Result<Vec<PathBuf>> {
        let step = Step::start(&format!("Downloading packages ({})", self.suites), None);
        follow(command, "downloading packages with apt-get", |line| {
            if let Some(got) = line.strip_prefix("Get:") {
                let words: Vec<&str> = got.split_whitespace().collect();
                step.note(&format!(
                    "{} {}",
                    words.first().unwrap_or(&""),
                    words.get(4).unwrap_or(&"")
                ));
            } else if line.starts_with("Need to get") {
                step.note(line);
            }
        })?;
        let archives = self.dir.join("cache/archives");
        let mut debs: Vec<PathBuf> = fs::read_dir(&archives)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "deb"))
            .collect();
        debs.sort();
        Ok(debs)
    }
}

/// Unpacks `debs` into `root` and removes each afterwards. Returns their names and versions.
///
/// No maintainer script runs. `base-files` comes first, because the paths of the other packages
/// pass through its symlinks (/bin, /lib, …).
pub fn unpack(debs: &[PathBuf], root: &Path) -> Result<Vec<String>> {
    let step = Step::start("Unpacking packages", Some(debs.len() as u64));
    let mut order: Vec<&PathBuf> = debs.iter().collect();
    order.sort_by_key(|deb| !package_file(deb).starts_with("base-files_"));
    let mut names = Vec::new();
    for deb in order {
        let name = package_file(deb);
        step.advance(&name);
        let mut command = Command::new("dpkg-deb");
        command.arg("--extract").arg(deb).arg(root);
        capture(command, &format!("unpacking {name} with dpkg-deb"))?;
        fs::remove_file(deb)?;
        names.push(name.trim_end_matches(".deb").replace("%3a", ":"));
    }
    Ok(names)
}

fn package_file(deb: &Path) -> String {
    deb.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the Debian mirror that this machine's apt uses.
fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT) $(CREATED_BY)"]);
    let targets = capture(command, "asking apt-get for this machine's mirrors")?;
    let is_debian = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words[..], [site, release, "main", "Packages"]
            if site.trim_end_matches('/').ends_with("/debian") && !release.contains("security"))
    };
    let line = targets.lines().find(is_debian).ok_or_else(|| {
        Error::other(
            "apt on this machine knows no mirror of Debian: the lab takes its kernels and QEMU from there. \
             Add one (for example the file /etc/apt/sources.list.d/debian.sources with any Debian suite)",
        )
    })?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Returns Debian's keys, from the package debian-archive-keyring.
fn keyring() -> Result<PathBuf> {
    ["pgp", "gpg"]
        .iter()
        .map(|end| PathBuf::from(format!("/usr/share/keyrings/debian-archive-keyring.{end}")))
        .find(|path| path.is_file())
        .ok_or(Error::MissingTool {
            tool: "debian-archive-keyring".to_owned(),
            package: "debian-archive-keyring",
        })
}
