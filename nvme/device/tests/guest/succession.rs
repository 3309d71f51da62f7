//! One client after another.

use crate::machine::{Cmd, Guest};
use vfio_irq_nvme_device::Disk;
use vfio_irq_user::pci::region::CONFIG;
use vfio_irq_user::{Client, ClientOptions};

const FLUSH: u8 = 0;

/// The second guest's writes to COMMAND change nothing that the first has not written already, unless
/// the server has put the register back.
#[test]
fn a_guest_works_after_a_client_that_left_its_settings() {
    let mut guest = Guest::after(4, Disk::memory(4 << 20).unwrap(), true, |path| {
        let first = Client::connect(path, ClientOptions::default()).unwrap();
        first.region_write(CONFIG, 4, &6_u16.to_le_bytes()).unwrap();
        let mut space = [0; 256];
        first.region_read(CONFIG, 0, &mut space).unwrap();
        let mut msix = usize::from(space[0x34]);
        while space[msix] != 0x11 {
            msix = space[msix + 1].into();
        }
        first.region_write(CONFIG, msix as u64 + 3, &[0xc0]).unwrap();
    });
    guest.enable();
    guest.create(1, 8);
    assert_eq!(guest.run(1, Cmd::new(FLUSH)).status, 0);
    guest.interrupted(1);
}
