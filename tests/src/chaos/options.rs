//! What is asked for, by environment variables: `make chaos` sets them.

use std::{env, path::PathBuf};

use crate::harness::Handler;

/// So many cycles if nobody says: what CI runs.
const CYCLES: u64 = 100;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many cycles, of each runtime.
    pub cycles: u64,
    /// What all choices are drawn from.
    pub seed: u64,
    /// The first cycle.
    pub first: u64,
    /// Whose containers, one after the other.
    pub handlers: Vec<Handler>,
    /// Where the result goes as JSON.
    pub json: Option<PathBuf>,
    /// Whether somebody watches.
    pub watched: bool,
}

impl Options {
    /// Those of the environment: `URUNC_CHAOS_N`, `_SEED` (else one by chance), `_AT`, `_RUNTIME` (urunc, runc),
    /// `_COMPARE` (not empty: runc as well), `_JSON` (a file). An empty one is none.
    #[track_caller]
    pub fn from_env() -> Self {
        let text = |name: &str| env::var(format!("URUNC_CHAOS_{name}")).ok().filter(|v| !v.is_empty());
        let number = |name: &str| {
            text(name).map(|v| v.parse().unwrap_or_else(|e| panic!("{name}={v} is no number: {e}")))
        };
        let handlers = match (text("RUNTIME").as_deref(), text("COMPARE")) {
            (None | Some("urunc"), None) => vec![Handler::Urunc],
            (None | Some("urunc"), Some(_)) => vec![Handler::Urunc, Handler::Runc],
            (Some("runc"), _) => vec![Handler::Runc],
            (Some(other), _) => panic!("RUNTIME={other}: there are urunc and runc"),
        };
        let cycles: Option<u64> = number("N");
        assert!(cycles != Some(0), "N=0 shows nothing");
        Self {
            cycles: cycles.unwrap_or(CYCLES),
            seed: number("SEED").unwrap_or_else(by_chance),
            first: number("AT").unwrap_or(0),
            handlers,
            json: text("JSON").map(PathBuf::from),
            watched: cycles.is_some(),
        }
    }

    /// The command that repeats one cycle alone.
    pub fn repeat(&self, handler: Handler, cycle: u64) -> String {
        let runtime = if handler == Handler::Runc { " RUNTIME=runc" } else { "" };
        format!("make chaos N=1 SEED={} AT={cycle}{runtime}", self.seed)
    }
}

/// Short enough to be typed.
fn by_chance() -> u64 {
    let mut bytes = [0u8; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    u32::from_le_bytes(bytes).into()
}
