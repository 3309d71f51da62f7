//! The two ways to open a device of the kernel: its group in a container, and its character device
//! with an iommufd.

use super::token;
use crate::pci::function::Function;
use crate::pci::{Bdf, System, nodes};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioIommufd, VfioOps};

/// A device, with the object that maps memory for it.
pub struct Opened {
    /// The device.
    pub device: VfioDevice,
    /// The container or the iommufd.
    pub memory: Arc<dyn VfioOps>,
    /// The directory above the device's path in sysfs. vfio-ioctls reads that path when the device
    /// is dropped.
    pub folder: Option<TempDir>,
}

/// Opens a function by its group or, if that fails, by its character device. A VF token is used
/// with the group only, because vfio-ioctls binds a character device without a token. Returns an
/// error sentence if both ways fail.
pub fn open(system: &System, function: &Function, token: Option<Uuid>) -> Result<Opened, String> {
    // The path is in the real system: no other device can be opened.
    let path = Path::new("/").join(function.bdf.directory());
    let cdev = || {
        let iommufd = iommufd_ioctls::IommuFd::new().map_err(|error| words(&error))?;
        let memory = VfioIommufd::new(Arc::new(iommufd), None, None);
        opened(&path, Arc::new(memory.map_err(|error| words(&error))?), None)
    };
    let group = || {
        let container = VfioContainer::new(None).map_err(|error| words(&error))?;
        let Some(token) = token else { return opened(&path, Arc::new(container), None) };
        let (folder, path) = with_token(&path, function.bdf, token)
            .map_err(|error| format!("no place for its name: {error}"))?;
        opened(&path, Arc::new(container), Some(folder))
    };
    first(group, (token.is_none() && nodes::has_device(system, function)).then_some(cdev))
}

/// Makes a path to a function in sysfs whose last part is the address with the token. vfio-ioctls
/// passes that part to VFIO_GROUP_GET_DEVICE_FD.
fn with_token(path: &Path, bdf: Bdf, token: Uuid) -> std::io::Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let named = folder.path().join(token::name(bdf, token));
    std::os::unix::fs::symlink(path, &named)?;
    Ok((folder, named))
}

fn opened(
    path: &Path,
    memory: Arc<dyn VfioOps>,
    folder: Option<TempDir>,
) -> Result<Opened, String> {
    let device = VfioDevice::new(path, Arc::clone(&memory), true);
    Ok(Opened { device: device.map_err(|error| words(&error))?, memory, folder })
}

/// Tries the group first, then the other way.
fn first<T>(
    group: impl FnOnce() -> Result<T, String>,
    cdev: Option<impl FnOnce() -> Result<T, String>>,
) -> Result<T, String> {
    let refused = match group() {
        Ok(opened) => return Ok(opened),
        Err(refused) => refused,
    };
    let Some(cdev) = cdev else { return Err(refused) };
    cdev().map_err(|also| format!("by its group, {refused}; by its character device, {also}"))
}

/// Formats an error with its causes, if its text does not contain them.
fn words(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = next.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::{first, with_token, words};
    use std::cell::Cell;
    use std::fs;

    #[test]
    fn the_character_device_is_for_when_the_group_cannot_be_opened() {
        let tried = Cell::new(false);
        let cdev = || {
            tried.set(true);
            Ok(2)
        };
        assert_eq!((first(|| Ok(1), Some(cdev)), tried.get()), (Ok(1), false));
        assert_eq!(first(|| Err("no group".to_owned()), Some(cdev)), Ok(2));
        let neither = first::<i32>(|| Err("a".to_owned()), Some(|| Err("b".to_owned())));
        assert_eq!(neither, Err("by its group, a; by its character device, b".to_owned()));
        let none = None::<fn() -> Result<i32, String>>;
        assert_eq!(first(|| Err("no group".to_owned()), none), Err("no group".to_owned()));
    }

    /// The kernel reads the last part of the path, and the path leads to the group.
    #[test]
    fn a_token_is_part_of_the_name() {
        let root = tempfile::tempdir().unwrap();
        let here = root.path().join("0000:01:10.0");
        fs::create_dir(&here).unwrap();
        std::os::unix::fs::symlink("../groups/7", here.join("iommu_group")).unwrap();
        let token = "12345678-1234-5678-9ABC-def012345678".parse().unwrap();
        let bdf = "01:10.0".parse().unwrap();
        let (_folder, path) = with_token(&here, bdf, token).unwrap();
        let name = "0000:01:10.0 vf_token=12345678-1234-5678-9abc-def012345678";
        assert_eq!(path.file_name().unwrap(), name);
        let group = fs::read_link(path.join("iommu_group")).unwrap();
        assert_eq!(group.file_name().unwrap(), "7");
    }

    #[test]
    fn causes_are_said_once() {
        let cause = || std::io::Error::from_raw_os_error(16);
        let quiet = vfio_ioctls::VfioError::OpenDeviceCdev(cause());
        assert_eq!(words(&quiet), format!("{quiet}: {}", cause()));
        assert_eq!(words(&cause()), cause().to_string());
    }
}
