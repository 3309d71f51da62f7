//! The cost on the host of vectors that a driver does not use, counted in /proc/interrupts.
//!
//! ```text
//! vfio-irq-host-interrupts USED BDF...
//! ```
//!
//! The example first enables USED vectors of each device with this crate, one at a time. Then it
//! calls rust-vmm's `enable_msix` with an eventfd for each entry of the table, as VMMs do when a
//! guest enables MSI-X. It prints the number of host interrupts after each. The exit status is 0
//! if the first way allocated USED interrupts for each device, the second one for each entry, and
//! both released all.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioOps};
use vfio_irq::{Index, Trigger, Vector, Vectors};

type Error = Box<dyn std::error::Error>;
type Device = Arc<VfioDevice>;

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
    let used = arguments.next().and_then(|text| text.parse().ok());
    let used: u32 = used.ok_or("say how many vectors of each device are used, then the devices")?;
    let container: Arc<dyn VfioOps> = Arc::new(VfioContainer::new(None)?);
    let open = |bdf: String| {
        let path = Path::new("/sys/bus/pci/devices").join(bdf);
        VfioDevice::new(&path, Arc::clone(&container), true).map(Arc::new)
    };
    let devices = arguments.map(open).collect::<Result<Vec<Device>, _>>()?;
    let entries = devices.iter().map(|device| device.get_irq_info(Index::Msix.raw()));
    let entries: u32 = entries.flatten().map(|info| info.count).sum();
    let count = u32::try_from(devices.len())?;
    println!("{count} devices, {entries} vectors in all, {used} of each used");

    let before = host_interrupts()?;
    let held =
        devices.iter().map(|device| one_by_one(device, used)).collect::<Result<Vec<_>, _>>()?;
    let lazy = host_interrupts()?;
    drop(held);
    let between = host_interrupts()?;
    let held = devices.iter().map(everything).collect::<Result<Vec<_>, _>>()?;
    let eager = host_interrupts()?;
    for device in &devices {
        device.disable_msix()?;
    }
    drop(held);
    let after = host_interrupts()?;
    println!("host interrupts, one vector at a time: {lazy}");
    println!("host interrupts, everything at once: {eager}");
    println!("before, between and after: {before}, {between}, {after}");
    Ok((lazy, eager) == (used * count, entries) && (before, between, after) == (0, 0, 0))
}

type Held = (Vec<Vector<Device>>, Vectors<Device>);

fn one_by_one(device: &Device, used: u32) -> Result<Held, Error> {
    let vectors = Vectors::open(Arc::clone(device), Index::Msix)?;
    let enable = |number| vectors.enable(number, Trigger::new()?);
    let held = (0..used).map(enable).collect::<Result<_, _>>()?;
    Ok((held, vectors))
}

fn everything(device: &Device) -> Result<Vec<Trigger>, Error> {
    let info = device.get_irq_info(Index::Msix.raw()).ok_or("a device has no MSI-X")?;
    let all = (0..info.count).map(|_| Trigger::new()).collect::<Result<Vec<_>, _>>()?;
    device.enable_msix(all.iter().map(Trigger::eventfd).collect())?;
    Ok(all)
}

/// Returns the number of host interrupts that VFIO requested for MSI-X.
fn host_interrupts() -> Result<u32, Error> {
    let text = std::fs::read_to_string("/proc/interrupts")?;
    Ok(u32::try_from(text.lines().filter(|line| line.contains("vfio-msix[")).count())?)
}
