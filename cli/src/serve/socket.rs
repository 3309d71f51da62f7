//! The sockets of served devices: valid paths, and access control.

use super::counts::beside;
use crate::error::Error;
use rustix::fs::Mode;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Bytes of a socket's path, without the zero at its end (`sun_path` of unix(7)).
const LONGEST: usize = 107;

/// Who may connect.
#[derive(clap::Args)]
pub struct Access {
    /// Who may connect, as an octal mode: 600, 660, 666 [default: as the umask allows, 660 with
    /// --socket-group]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    socket_mode: Option<u32>,
    /// Give the sockets to this group, a name or a number
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok();
    let fits = mode.filter(|mode| mode & !0o777 == 0 && mode & 0o600 == 0o600);
    fits.ok_or_else(|| {
        "a mode is octal and lets the owner read and write: 600, 660 or 666".to_owned()
    })
}

/// Returns the number of a group.
fn group(text: &str) -> Result<u32, Error> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let found = nix::unistd::Group::from_name(text)
        .map_err(|error| Error::plain(format!("groups cannot be looked up: {error}")))?;
    found.map(|group| group.gid.as_raw()).ok_or_else(|| {
        let remedy = "`getent group` lists them, and a number is right";
        Error::new(format!("there is no group {text}"), remedy).misunderstood()
    })
}

impl Access {
    /// Looks up the group. Returns the mode and the group of the sockets.
    ///
    /// # Errors
    ///
    /// If the group does not exist.
    pub fn find(&self) -> Result<Granted, Error> {
        let group = self.socket_group.as_deref().map(group).transpose()?;
        Ok(Granted { mode: self.socket_mode.or(group.map(|_| 0o660)), group })
    }
}

/// The access to a socket.
pub struct Granted {
    /// `None` for the default of the umask.
    mode: Option<u32>,
    group: Option<u32>,
}

impl Granted {
    /// Makes new sockets inaccessible to other users, if access is restricted. [`Self::open`]
    /// grants the access later. No other user can connect in between.
    pub fn restrict(&self) {
        if self.mode.is_some() {
            rustix::process::umask(Mode::from_raw_mode(0o177));
        }
    }

    /// Grants the access.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn open(&self, socket: &Path) -> Result<(), Error> {
        use std::os::unix::fs::{PermissionsExt, chown};
        let refused = |verb: &str, error: &std::io::Error| {
            let what = format!("cannot {verb} {}: {error}", socket.display());
            Error::new(what, "a member of the group can, and root")
        };
        if self.group.is_some() {
            chown(socket, None, self.group)
                .map_err(|error| refused("change the group of", &error))?;
        }
        let Some(mode) = self.mode else { return Ok(()) };
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode))
            .map_err(|error| refused("change the mode of", &error))
    }
}

/// Checks that a server can listen on these paths, and beside them for their counts.
///
/// # Errors
///
/// For a path that cannot be a socket, or that is used twice.
pub fn check(sockets: &[PathBuf]) -> Result<(), Error> {
    let mut taken: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    for socket in sockets {
        let paths = [socket.clone(), beside(socket)];
        check_length(socket)?;
        paths.iter().try_for_each(|path| check_place(path))?;
        for path in paths {
            if let Some(other) = taken.insert(place(&path), socket) {
                let what = if place(other) == place(socket) {
                    format!("{} is named twice", socket.display())
                } else {
                    let (path, other) = (path.display(), other.display());
                    format!("{path} is needed for {other} and for {}", socket.display())
                };
                let remedy = "each controller has a socket of its own, and its counts beside it";
                return Err(Error::new(what, remedy).misunderstood());
            }
        }
    }
    Ok(())
}

/// Returns one canonical form of a path, whether it exists or not.
fn place(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = whole.parent().and_then(|folder| std::fs::canonicalize(folder).ok());
    match (folder, whole.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => whole,
    }
}

fn check_length(socket: &Path) -> Result<(), Error> {
    let length = |path: &Path| path.as_os_str().as_bytes().len();
    let counts = beside(socket);
    if length(&counts) <= LONGEST {
        return Ok(());
    }
    let most = LONGEST - (length(&counts) - length(socket));
    let what = format!("{} has {} bytes, which is too long", socket.display(), length(socket));
    let remedy = format!(
        "a socket's path has {LONGEST} bytes at most, and its counts need PATH.counts: {most} bytes \
         are right; name it relative to the working directory, or choose another directory"
    );
    Err(Error::new(what, remedy).misunderstood())
}

/// Checks that a path is free: it is a socket, or absent from an existing directory.
fn check_place(path: &Path) -> Result<(), Error> {
    let text = path.display();
    let wrong = |what: String, remedy: String| Err(Error::new(what, remedy).misunderstood());
    if path.file_name().is_none() {
        return wrong(
            format!("{text} names no socket"),
            "name one, as in /tmp/disk.sock".to_owned(),
        );
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => {
            let inside = path.join("disk.sock");
            let remedy = format!("name a socket in it: {}", inside.display());
            return wrong(format!("{text} is a directory"), remedy);
        }
        Ok(there) if !there.file_type().is_socket() => {
            let remedy = "choose a path where nothing is: what is there is kept".to_owned();
            return wrong(format!("{text} exists and is no socket"), remedy);
        }
        _ => {}
    }
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    match std::fs::metadata(folder) {
        Ok(there) if there.is_dir() => Ok(()),
        Ok(_) => wrong(
            format!("{} is no directory, so {text} cannot be made", folder.display()),
            "choose another path".to_owned(),
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = folder.display();
            wrong(format!("there is no directory {folder}"), format!("mkdir -p {folder}"))
        }
        Err(error) => Err(Error::file("look into", folder, &error)),
    }
}

/// State of a connected socket in /proc/net/unix.
const CONNECTED: &str = "03";

/// Returns true if a client is connected to a socket of this process, by /proc/net/unix; `None` if that
/// file cannot be read.
pub fn has_client(socket: &Path) -> Option<bool> {
    let table = std::fs::read_to_string("/proc/net/unix").ok()?;
    let own = Path::new("/proc/self/fd");
    let links = crate::pci::names(own).into_iter();
    let links = links.filter_map(|fd| std::fs::read_link(own.join(fd)).ok());
    let own: BTreeSet<String> =
        links.filter_map(|link| link.into_os_string().into_string().ok()).collect();
    let socket = socket.to_str()?;
    // Num RefCount Protocol Flags Type St Inode Path: accepted sockets have the listener's path.
    Some(table.lines().any(|line| {
        let mut words = line.splitn(8, ' ').skip(5);
        let (state, rest) = (words.next(), words.collect::<Vec<_>>().join(" "));
        let Some((inode, path)) = rest.trim_start().split_once(' ') else { return false };
        state == Some(CONNECTED) && path == socket && own.contains(&format!("socket:[{inode}]"))
    }))
}

#[cfg(test)]
mod tests {
    use super::{group, has_client, mode};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_client_is_seen_while_it_is_connected() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a b"), folder.path().join("other"));
        let (listener, _other) =
            (UnixListener::bind(&path).unwrap(), UnixListener::bind(&other).unwrap());
        assert_eq!(has_client(&path), Some(false));
        let client = UnixStream::connect(&path).unwrap();
        let accepted = listener.accept().unwrap();
        assert_eq!((has_client(&path), has_client(&other)), (Some(true), Some(false)));
        drop((client, accepted));
        assert_eq!(has_client(&path), Some(false));
    }

    #[test]
    fn modes_are_octal_and_keep_the_owner() {
        assert_eq!((mode("660"), mode("0600")), (Ok(0o660), Ok(0o600)));
        for text in ["", "abc", "880", "7777", "066", "400", "-1"] {
            assert!(mode(text).unwrap_err().contains("600, 660 or 666"), "{text}");
        }
    }

    #[test]
    fn groups_have_names_and_numbers() {
        assert_eq!((group("root"), group("77")), (Ok(0), Ok(77)));
        let error = group("no such group").unwrap_err();
        assert!(error.to_string().contains("getent group") && error.status == 2, "{error}");
    }
}
