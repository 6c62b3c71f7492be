//! The monitors (VMMs) that urunc can run guests with: one folder per monitor, one file per kind of guest.
//!
//! A backend decides a command line ([`Monitor::plan`], pure), speaks the monitor's control protocol and translates
//! its exit code. It owns nothing but its end of the control channel: it starts, kills and cleans up nothing, so
//! whatever fails here leaves nothing behind. Failures are [`vmm_api::PlanError`] before anything was made, and
//! [`vmm_api::ControlError`] once a monitor runs.

mod guest;
mod qemu;

use vmm_api::Monitor;

/// Every monitor that this build knows, the default first.
pub fn monitors() -> Vec<Box<dyn Monitor>> {
    vec![Box::new(qemu::Qemu)]
}

/// The monitor that `com.urunc.unikernel.hypervisor` names.
pub fn find_monitor(name: &str) -> Option<Box<dyn Monitor>> {
    monitors().into_iter().find(|monitor| monitor.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_are_found_by_their_own_names_only() {
        for monitor in monitors() {
            assert_eq!(find_monitor(monitor.name()).unwrap().name(), monitor.name());
        }
        assert!(find_monitor("").is_none());
        assert!(find_monitor("QEMU").is_none());
    }
}
