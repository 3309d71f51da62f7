//! The VF token, which the user of a virtual function must know if VFIO has the physical function.
//!
//! The user of the physical function sets the token when opening that function. The kernel refuses
//! a virtual function without the token (EACCES). So no user depends on a physical function of
//! another user unless both agree.

use crate::error::Error;
use crate::pci::Bdf;
use crate::pci::function::Function;
use crate::pci::sriov::Sriov;
use uuid::Uuid;

/// The token for a device that is opened.
#[derive(clap::Args, Clone, Copy, Default)]
pub struct VfToken {
    /// The VF token: sets it for a physical function, and is needed for its virtual functions
    #[arg(long = "vf-token", value_name = "UUID")]
    token: Option<Uuid>,
}

impl VfToken {
    /// Returns the token with which this function is opened, if any.
    ///
    /// # Errors
    ///
    /// If a token is missing, or the kernel would refuse it.
    pub fn of(self, function: &Function) -> Result<Option<Uuid>, Error> {
        let bdf = function.bdf;
        match (&function.sriov, self.token) {
            (Some(Sriov::Virtual { physical, needs_token: true }), None) => Err(Error::new(
                format!("{bdf} is a virtual function of {physical}, which a VFIO driver has"),
                format!(
                    "say --vf-token UUID: the token that {physical} was opened with \
                     (QEMU: -device vfio-pci,host={physical},vf-token=UUID)"
                ),
            )),
            (Some(Sriov::Virtual { physical, needs_token: false }), Some(_)) => Err(Error::new(
                format!(
                    "{bdf} takes no VF token: no VFIO driver has {physical}, its physical function"
                ),
                "leave out --vf-token",
            )),
            (None, Some(_)) => Err(Error::new(
                format!("{bdf} takes no VF token: it has nothing to do with SR-IOV"),
                "leave out --vf-token",
            )),
            (_, token) => Ok(token),
        }
    }

    /// Refuses a token for a device that is no PCI function.
    ///
    /// # Errors
    ///
    /// If there is a token.
    pub fn none(self, target: &impl std::fmt::Display) -> Result<(), Error> {
        match self.token {
            None => Ok(()),
            Some(_) => Err(Error::new(
                format!("{target} takes no VF token: it is no PCI function of this machine"),
                "leave out --vf-token",
            )
            .misunderstood()),
        }
    }
}

/// Formats the argument of VFIO_GROUP_GET_DEVICE_FD: the address, and the token.
pub fn name(bdf: Bdf, token: Uuid) -> String {
    format!("{bdf} vf_token={token}")
}
