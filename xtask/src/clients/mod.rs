//! VFIO clients of other projects, unmodified: how they are built and run in a guest.

use std::path::PathBuf;

use crate::error::Result;
use crate::lab::cache::Cache;
use crate::lab::guest::Builder;
use crate::lab::kernel::Series;
use crate::lab::root;

mod dpdk;
mod selftests;

/// A client from another project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// Debian's DPDK.
    Dpdk,
    /// The selftests of VFIO in the kernel's own sources.
    Selftests,
}

impl Client {
    /// Builds the programs that the client's rows run. Returns their paths.
    pub fn programs(self, cache: &Cache, series: Series) -> Result<Vec<PathBuf>> {
        match self {
            Self::Dpdk => dpdk::build(cache),
            Self::Selftests => selftests::build(cache, series),
        }
    }

    /// Gives the guest the memory and the root that the client needs.
    pub fn equip(self, builder: &mut Builder) {
        match self {
            Self::Dpdk => {
                builder.root = true;
                builder.userland = root::Kind::Clients;
                builder.memory = 2048;
            }
            // A test pins 1 GiB, and another maps a huge page of 1 GiB.
            Self::Selftests => builder.memory = 4096,
        }
    }

    /// Returns true if the client provokes this line of the kernel's log on purpose.
    pub fn provokes(self, line: &str) -> bool {
        // Selftests have a device read from an address that is not mapped.
        self == Self::Selftests && line.contains("DMAR: [DMA ") && line.contains("fault reason")
    }

    /// The script that the client's rows run.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Dpdk => include_str!("dpdk.sh"),
            Self::Selftests => include_str!("selftests.sh"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Client;

    #[test]
    fn only_a_provoked_dma_fault_is_expected() {
        let fault = "[5.1] DMAR: [DMA Read NO_PASID] Request device [0000:00:04.0] fault addr 0x80000000 [fault reason 0x06] PTE Read access is not set";
        assert!(Client::Selftests.provokes(fault));
        assert!(!Client::Dpdk.provokes(fault));
        assert!(!Client::Selftests.provokes("[5.1] DMAR: [INTR-REMAP] Request device"));
        assert!(!Client::Selftests.provokes("[5.1] WARNING: CPU: 0"));
    }
}
