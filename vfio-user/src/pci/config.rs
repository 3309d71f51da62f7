//! Configuration space.

/// Registers with side effects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Places {
    pub(crate) msi: Option<usize>,
    pub(crate) msi_mask: Option<usize>,
    pub(crate) msix: Option<usize>,
    pub(crate) express: Option<usize>,
}

/// The side effects of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Effects {
    /// The command register, as it is now.
    pub(crate) command: Option<u16>,
    /// MSI's mask register, before and now.
    pub(crate) msi_mask: Option<(u32, u32)>,
    /// MSI-X's function mask, as it is now.
    pub(crate) function_mask: Option<bool>,
    /// The function is to reset itself.
    pub(crate) reset: bool,
}

/// The bytes that matter, and which of their bits can be written. What is above them reads as zero.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    bytes: Box<[u8; 256]>,
    writable: Box<[u8; 256]>,
    size: u64,
    places: Places,
}

/// Interrupt Disable in the command register.
pub(crate) const INTX_OFF: u16 = 1 << 10;
/// Bus Master Enable in the command register.
pub(crate) const BUS_MASTER: u16 = 1 << 2;

impl Config {
    const COMMAND: usize = 4;
    const STATUS: usize = 6;
    const INTERRUPT_STATUS: u8 = 1 << 3;
    const FUNCTION_MASK: u16 = 1 << 14;
    const FLR: u16 = 1 << 15;

    pub(super) fn new(size: u64) -> Self {
        Self {
            bytes: Box::new([0; 256]),
            writable: Box::new([0; 256]),
            size,
            places: Places::default(),
        }
    }

    pub(super) fn init(&mut self, at: usize, bytes: &[u8], writable: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        if let Some(place) = self.writable.get_mut(at..at + writable.len()) {
            place.copy_from_slice(writable);
        }
    }

    pub(super) fn set_places(&mut self, places: Places) {
        self.places = places;
    }

    /// Returns the size of the region.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Reads. `line` is true if INTx is asserted; `pending` returns the pending bits of MSI.
    pub(crate) fn read(
        &self,
        offset: u64,
        data: &mut [u8],
        line: bool,
        pending: impl Fn(u32) -> bool,
    ) {
        for (at, byte) in (offset..).zip(data) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            *byte = self.bytes.get(at).copied().unwrap_or(0);
            if at == Self::STATUS && line {
                *byte |= Self::INTERRUPT_STATUS;
            }
            let register = self.places.msi_mask.map(|mask| mask + 4);
            let of_pending = register.and_then(|register| at.checked_sub(register));
            if let Some(i) = of_pending.and_then(|i| u32::try_from(i).ok()).filter(|i| *i < 4) {
                let bits = (0..8).filter(|bit| pending(i * 8 + bit));
                *byte = bits.fold(0, |byte, bit| byte | 1 << bit);
            }
        }
    }

    /// Writes the writable bits. Returns the side effects.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Effects {
        let before = self.registers();
        for (at, byte) in (offset..).zip(data) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let (Some(place), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) else {
                continue;
            };
            *place = *place & !mask | byte & mask;
        }
        Effects { reset: self.asks_for_reset(offset, data), ..self.effects_since(before) }
    }

    /// Resets all bytes. Returns the side effects, as a write does.
    pub(crate) fn reset(&mut self, initial: &Self) -> Effects {
        let before = self.registers();
        self.bytes.copy_from_slice(&*initial.bytes);
        self.effects_since(before)
    }

    fn effects_since(&self, before: (u16, u32, bool)) -> Effects {
        let now = self.registers();
        Effects {
            command: (before.0 != now.0).then_some(now.0),
            msi_mask: (before.1 != now.1).then_some((before.1, now.1)),
            function_mask: (before.2 != now.2).then_some(now.2),
            reset: false,
        }
    }

    /// Command, MSI's mask, MSI-X's function mask.
    fn registers(&self) -> (u16, u32, bool) {
        let mask = self
            .places
            .msi_mask
            .map_or(0, |at| u32::from(self.get16(at)) | u32::from(self.get16(at + 2)) << 16);
        let control = self.places.msix.map_or(0, |at| self.get16(at + 2));
        (self.get16(Self::COMMAND), mask, control & Self::FUNCTION_MASK != 0)
    }
    fn get16(&self, at: usize) -> u16 {
        let byte = |at| u16::from(self.bytes.get(at).copied().unwrap_or(0));
        byte(at) | byte(at + 1) << 8
    }

    fn asks_for_reset(&self, offset: u64, data: &[u8]) -> bool {
        let Some(upper) = self.places.express.map(|at| at as u64 + 9) else { return false };
        let byte = upper.checked_sub(offset).and_then(|i| data.get(usize::try_from(i).ok()?));
        byte.is_some_and(|byte| u16::from(*byte) << 8 & Self::FLR != 0)
    }
}
