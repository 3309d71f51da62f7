//! Identify data structures.

use crate::Common;
use crate::events::MOST_REQUESTS;
use crate::features::WARM;
use crate::registers::VERSION;

/// All namespaces.
pub(crate) const ALL: u32 = u32::MAX;

/// The size of the error log in entries.
pub(crate) const ERRORS: usize = 16;

/// Bytes of one command's data, at most, as a power of two of the smallest page: 1 MiB.
pub(crate) const MOST_PAGES: u8 = 8;

/// Writes bytes into a page; truncates at its end.
pub(crate) fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = page.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Writes text, padded with spaces.
fn put_text(page: &mut [u8], at: usize, len: usize, text: &str) {
    if let Some(place) = page.get_mut(at..at + len) {
        place.fill(b' ');
        for (byte, from) in place.iter_mut().zip(text.bytes()) {
            *byte = from;
        }
    }
}

/// Returns a UUID that depends on the serial number only.
fn uuid(common: &Common) -> [u8; 16] {
    let hash = |salt: u64| {
        let bytes = common.serial.bytes();
        bytes.fold(0xcbf2_9ce4_8422_2325 ^ salt, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let mut uuid = [0; 16];
    put(&mut uuid, 0, &hash(0).to_be_bytes());
    put(&mut uuid, 8, &hash(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    // UUID version 8 (vendor specific), and the usual variant.
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

fn less_one(count: usize) -> u8 {
    u8::try_from(count.saturating_sub(1)).unwrap_or(u8::MAX)
}

/// Identify Controller.
pub(crate) fn controller(page: &mut [u8], common: &Common) {
    put(page, 0, &0x1234_u16.to_le_bytes());
    put(page, 2, &0x1234_u16.to_le_bytes());
    put_text(page, 4, 20, &common.serial);
    put_text(page, 24, 40, "vfio-irq emulated NVMe controller");
    put_text(page, 64, 8, env!("CARGO_PKG_VERSION"));
    put(page, 77, &[MOST_PAGES]);
    put(page, 80, &VERSION.to_le_bytes());
    // An I/O controller.
    put(page, 111, &[1]);
    // Doorbells may be in memory.
    put(page, 256, &(1_u16 << 8).to_le_bytes());
    // Aborts and events at one time; one slot of firmware that cannot be written; log pages may be
    // read from anywhere; entries of the error log.
    let events = less_one(MOST_REQUESTS);
    put(page, 258, &[3, events, 0b11, 1 << 2, less_one(ERRORS)]);
    put(page, 266, &WARM.to_le_bytes());
    put(page, 268, &(WARM + 30).to_le_bytes());
    // Sizes of entries; one namespace; dataset management and write zeroes; a write cache that can be
    // flushed for all namespaces.
    put(page, 512, &[0x66, 0x44]);
    put(page, 516, &1_u32.to_le_bytes());
    put(page, 520, &0b1100_u16.to_le_bytes());
    put(page, 525, &[0b111]);
    let hex: String = uuid(common).iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    let (a, b, c, d, e) = (part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32));
    let name = format!("nqn.2014-08.org.nvmexpress:uuid:{a}-{b}-{c}-{d}-{e}");
    put(page, 768, name.as_bytes());
    // The one state of power: 25 W.
    put(page, 2048, &2500_u16.to_le_bytes());
}

/// Identify Namespace: as large as the disk, in blocks of 512 bytes.
pub(crate) fn namespace(page: &mut [u8], common: &Common) {
    let blocks = common.disk.blocks().to_le_bytes();
    for at in [0, 8, 16] {
        put(page, at, &blocks);
    }
    // Deallocated blocks read as zeroes, and Write Zeroes may deallocate.
    put(page, 33, &[0b1001]);
    put(page, 104, &uuid(common));
    // The only format: no metadata, 2^9 bytes.
    put(page, 128, &[0, 0, 9, 0]);
}

/// Namespace Identification Descriptors: a UUID.
pub(crate) fn descriptors(page: &mut [u8], common: &Common) {
    put(page, 0, &[3, 16, 0, 0]);
    put(page, 4, &uuid(common));
}

/// Returns true if the namespace ID is that of the namespace, or means all namespaces.
pub(crate) fn is_ours(namespace: u32) -> bool {
    matches!(namespace, 1 | ALL)
}
