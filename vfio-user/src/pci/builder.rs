//! Builds PCI functions.

use super::bar::{Bar, Kind};
use super::config::Config;
use super::layout::{self, Msi, Msix, Parts};
use crate::irq::IrqCaps;

/// The reason why a function is invalid.
///
/// ```
/// use vfio_irq_user::pci::Function;
///
/// let error = Function::builder(0x1234, 1).msi(3, true).build().unwrap_err();
/// assert_eq!(error.to_string(), "MSI cannot have 3 vectors");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FunctionError {
    /// There are six base address registers.
    #[error("BAR {0} does not exist, or is the upper half of a 64-bit one")]
    NoBar(usize),
    /// The hardware's own rule.
    #[error(
        "BAR {bar} has {size} bytes, which is not a power of two within the limits of its kind"
    )]
    BarSize {
        /// The BAR.
        bar: usize,
        /// The size in bytes.
        size: u64,
    },
    /// A part of a BAR that can be mapped, or has an eventfd, is outside of it.
    #[error("BAR {0} has an area outside of itself")]
    Outside(usize),
    /// MSI has 1, 2, 4, 8, 16 or 32 vectors.
    #[error("MSI cannot have {0} vectors")]
    MsiVectors(u32),
    /// MSI-X has 1 to 2048 vectors.
    #[error("MSI-X cannot have {0} vectors")]
    MsixVectors(u32),
    /// The MSI-X table and the PBA must be in a memory BAR, aligned to 8 bytes, and must not
    /// overlap.
    #[error("the MSI-X table and its pending bits do not fit where they are put")]
    MsixPlace,
    /// There are pins A to D.
    #[error("there is no interrupt pin {0}")]
    Pin(u8),
}

/// A PCI function.
#[derive(Clone, Debug)]
pub struct Function {
    pub(crate) bars: [Option<Bar>; 6],
    pub(crate) msix: Option<Msix>,
    pub(crate) caps: IrqCaps,
    pub(crate) config: Config,
}

impl Function {
    /// Starts a function with these vendor and device IDs.
    ///
    /// ```
    /// use vfio_irq_user::pci::{Bar, Function};
    /// let function = Function::builder(0x1b36, 0x0010)
    ///     .class(0x01, 0x08, 0x02)
    ///     .bar(0, Bar::memory64(0x4_0000))
    ///     .msix(1024, 0, 0x1_0000, 0x2_0000)
    ///     .power_management()
    ///     .pcie()
    ///     .build()?;
    /// assert_eq!(function.vectors(), 1024);
    /// # Ok::<(), vfio_irq_user::pci::FunctionError>(())
    /// ```
    pub fn builder(vendor: u16, device: u16) -> Builder {
        Builder(Parts { vendor, device, class: [0xff, 0, 0], ..Parts::default() })
    }

    /// Returns the number of vectors of MSI or MSI-X, whichever is greater.
    pub fn vectors(&self) -> u32 {
        self.caps.msi.max(self.caps.msix)
    }
}

/// Builds a [`Function`].
///
/// ```
/// use vfio_irq_user::pci::{Bar, Function};
///
/// // One device with more vectors than the other, and all else the same.
/// let common = Function::builder(0x1234, 3).bar(0, Bar::memory32(0x1_0000));
/// let small = common.clone().msix(2, 0, 0x8000, 0xc000).build()?;
/// let large = common.msix(64, 0, 0x8000, 0xc000).build()?;
/// assert_eq!((small.vectors(), large.vectors()), (2, 64));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder(Parts);

impl Builder {
    /// Sets the class code (register 0x09): base class, sub-class, programming interface.
    pub fn class(mut self, base: u8, sub: u8, interface: u8) -> Self {
        self.0.class = [base, sub, interface];
        self
    }

    /// Sets the revision ID (register 0x08).
    pub fn revision(mut self, revision: u8) -> Self {
        self.0.revision = revision;
        self
    }

    /// Sets the subsystem vendor and device IDs (registers 0x2c and 0x2e).
    pub fn subsystem(mut self, vendor: u16, device: u16) -> Self {
        self.0.subsystem = (vendor, device);
        self
    }

    /// Sets a BAR (register 0x10 + 4 × `number`).
    pub fn bar(mut self, number: usize, bar: Bar) -> Self {
        match self.0.bars.get_mut(number) {
            Some(place) => *place = Some((number, bar)),
            // `build` reports a wrong number.
            None => self.0.bars = std::array::from_fn(|_| Some((number, bar.clone()))),
        }
        self
    }

    /// Sets the INTx pin (register 0x3d): A (1) to D (4), or 0 for none.
    pub fn pin(mut self, pin: u8) -> Self {
        self.0.pin = pin;
        self
    }

    /// Adds MSI (capability 0x05) with this many vectors, with or without mask bits (`CONTRACT.md`,
    /// I-07).
    pub fn msi(mut self, vectors: u32, maskable: bool) -> Self {
        self.0.msi = Some(Msi { vectors, maskable });
        self
    }

    /// Adds MSI-X (capability 0x11) with this many vectors, with table and PBA at these offsets of
    /// a BAR. The server emulates both; the device sees no access to them.
    pub fn msix(mut self, vectors: u32, bar: u8, table: u32, pending: u32) -> Self {
        self.0.msix = Some(Msix { vectors, bar, table, pending });
        self
    }

    /// Adds the power management capability (0x01): D0 and D3hot.
    pub fn power_management(mut self) -> Self {
        self.0.power_management = true;
        self
    }

    /// Adds the PCI Express capability (0x10) of an endpoint with FLR, and 4 KiB of configuration
    /// space.
    pub fn pcie(mut self) -> Self {
        self.0.pcie = true;
        self
    }

    /// Builds the function.
    ///
    /// # Errors
    ///
    /// Returns a [`FunctionError`] if the function is invalid.
    pub fn build(self) -> Result<Function, FunctionError> {
        self.check_bars()?;
        let msi = self.0.msi.map_or(0, |msi| msi.vectors);
        if self.0.msi.is_some() && !(msi.is_power_of_two() && msi <= 32) {
            return Err(FunctionError::MsiVectors(msi));
        }
        if self.0.pin > 4 {
            return Err(FunctionError::Pin(self.0.pin));
        }
        self.check_msix()?;
        let config = layout::lay_out(&self.0);
        let caps = IrqCaps {
            msi,
            msi_maskable: self.0.msi.is_some_and(|msi| msi.maskable),
            msix: self.0.msix.map_or(0, |msix| msix.vectors),
            pin: self.0.pin != 0,
        };
        let bars = self.0.bars.map(|bar| bar.map(|(_, bar)| bar));
        Ok(Function { bars, msix: self.0.msix, caps, config })
    }

    fn check_bars(&self) -> Result<(), FunctionError> {
        let mut upper = None;
        for (place, bar) in self.0.bars.iter().enumerate() {
            let Some((number, bar)) = bar else {
                upper = None;
                continue;
            };
            let number = *number;
            let wide = bar.kind == Kind::Memory64;
            if number != place || upper == Some(place) || (wide && place == 5) {
                return Err(FunctionError::NoBar(number));
            }
            upper = wide.then_some(place + 1);
            let limits = match bar.kind {
                Kind::Io => 4..=256,
                Kind::Memory32 => 16..=1 << 31,
                Kind::Memory64 => 16..=1 << 62,
            };
            if !bar.size.is_power_of_two() || !limits.contains(&bar.size) {
                return Err(FunctionError::BarSize { bar: number, size: bar.size });
            }
            let areas = bar.share.iter().flat_map(|share| &share.areas);
            let spans = bar.eventfds.iter().map(|eventfd| (eventfd.offset, eventfd.size));
            let outside = |(offset, size): (u64, u64)| {
                offset.checked_add(size).is_none_or(|end| end > bar.size)
            };
            if areas.map(|area| (area.offset, area.size)).chain(spans).any(outside) {
                return Err(FunctionError::Outside(number));
            }
        }
        Ok(())
    }

    fn check_msix(&self) -> Result<(), FunctionError> {
        let Some(msix) = self.0.msix else { return Ok(()) };
        if !(1..=2048).contains(&msix.vectors) {
            return Err(FunctionError::MsixVectors(msix.vectors));
        }
        let bar = self.0.bars.get(usize::from(msix.bar)).and_then(Option::as_ref);
        let memory = bar.filter(|(_, bar)| bar.kind != Kind::Io);
        let size = memory.map_or(0, |(_, bar)| bar.size);
        let (table, pending) = (msix.table_range(), msix.pending_range());
        let apart = table.end <= pending.start || pending.end <= table.start;
        let aligned = msix.table % 8 == 0 && msix.pending % 8 == 0;
        if !apart || !aligned || table.end > size || pending.end > size {
            return Err(FunctionError::MsixPlace);
        }
        Ok(())
    }
}
