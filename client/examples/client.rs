//! The library on a device of a real kernel, through rust-vmm's `VfioDevice`: a request that fails
//! in the middle, INTx and REQ. The lab runs it.
//!
//! ```text
//! vfio-irq-client group|cdev BDF
//! ```
//!
//! The device comes from its group and a container, or from its character device and an iommufd.
//! The exit status is 0 if every check passed.

use iommufd_ioctls::IommuFd;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioIommufd, VfioOps};
use vfio_irq::{Error as IrqError, Event, Index, Intx, Trigger, Vector, Vectors};

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Error> {
    let mut arguments = std::env::args().skip(1);
    let interface = arguments.next().ok_or("usage: vfio-irq-client group|cdev BDF")?;
    let bdf = arguments.next().ok_or("give the address of a function that vfio-pci has")?;
    let ops: Arc<dyn VfioOps> = match interface.as_str() {
        "group" => Arc::new(VfioContainer::new(None)?),
        "cdev" => Arc::new(VfioIommufd::new(Arc::new(IommuFd::new()?), None, None)?),
        other => return Err(format!("{other} is neither group nor cdev").into()),
    };
    let path = Path::new("/sys/bus/pci/devices").join(bdf);
    let device = Arc::new(VfioDevice::new(&path, ops, true)?);

    let left = fails_in_the_middle(&device)?;
    println!("a request that fails in the middle leaves {left} of 6 vectors");
    let (intx, req) = (intx_signals(&device)?, req_signals(&device)?);
    println!("INTx signals: {intx}, REQ signals: {req}");
    Ok(left == 6 && intx && req)
}

/// Returns how many of six vectors signal after a request whose fifth descriptor is not an eventfd.
fn fails_in_the_middle(device: &Arc<VfioDevice>) -> Result<usize, Error> {
    let vectors = Vectors::open(Arc::clone(device), Index::Msix)?;
    println!("{}", vectors.capabilities());
    let before = (0..6).map(|_| Trigger::new()).collect::<Result<Vec<_>, _>>()?;
    let handles = vectors.enable_many((0..6).zip(&before))?;
    let mut after = before.clone();
    after.rotate_left(1);
    after[4] = Trigger::from(OwnedFd::from(File::open("/dev/null")?));
    if vectors.retarget_many(handles.iter().zip(&after)).is_ok() {
        return Err("a file that is no eventfd was attached".into());
    }
    // A host that is not all or nothing may have signalled them.
    before.iter().for_each(|trigger| _ = trigger.take());
    handles.iter().try_for_each(Vector::loopback)?;
    Ok(before.iter().filter(|trigger| trigger.take() == 1).count())
}

fn intx_signals(device: &Arc<VfioDevice>) -> Result<bool, IrqError> {
    let (trigger, resample) = (Trigger::new()?, Trigger::new()?);
    let intx = Intx::enable_resampled(Arc::clone(device), &trigger, &resample)?;
    intx.loopback()?;
    Ok(trigger.take() == 1)
}

fn req_signals(device: &Arc<VfioDevice>) -> Result<bool, IrqError> {
    let trigger = Trigger::new()?;
    let event = Event::open(Arc::clone(device), Index::Req, &trigger)?;
    event.loopback()?;
    Ok(trigger.take() == 1)
}
