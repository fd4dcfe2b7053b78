//! Gives up capabilities (capabilities(7)) and the ways to get some (`PR_SET_NO_NEW_PRIVS`).

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::{Error, Report};

/// Bits of a capability set; the kernel knows fewer and says where they end.
const CAPABILITIES_MAX: u32 = 64;

const NONE: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

pub(super) fn drop_all(report: &mut Report) -> Result<(), Error> {
    let failed = |doing| move |errno: rustix::io::Errno| Error::System { doing, source: errno.into() };
    let now = capabilities(None).map_err(failed("read the capabilities"))?;
    // Only who may set capabilities can shrink the bounding set; for others it bounds nothing that they could get.
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..CAPABILITIES_MAX {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            if capability_is_in_bounding_set(one) == Ok(true) {
                remove_capability_from_bounding_set(one).map_err(failed("shrink the bounding set"))?;
            }
        }
    }
    // Kernels before 4.3 have no ambient set, and nothing in it.
    if let Err(errno) = clear_ambient_capability_set()
        && errno != rustix::io::Errno::INVAL
    {
        return Err(failed("clear the ambient capabilities")(errno));
    }
    set_capabilities(None, NONE).map_err(failed("give up the capabilities"))?;
    set_no_new_privs(true).map_err(failed("refuse new privileges"))?;
    report.enforced("privileges: no capability, and no way to get one (no_new_privs)");
    Ok(())
}
