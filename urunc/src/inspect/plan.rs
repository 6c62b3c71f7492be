//! A plan, with the reason of each choice.

use runtime_core::plan::{
    GuestPlan, GuestRootfs, Late, MemoryRule, NetworkChoice, NetworkPlan, OrdinaryPlan, Plan, RootfsChoice,
};
use serde::Serialize;

/// What was decided, and why.
#[derive(Serialize)]
pub struct Shown {
    /// `sandbox`, an ordinary container, or the kind of guest.
    what: String,
    /// The monitor and its program.
    monitor: Option<String>,
    /// The monitor's arguments, once all that they depend on is known.
    command: Vec<String>,
    /// Everything that was chosen, each with its reason.
    choices: Vec<Choice>,
    /// The keys of the image contract, annotations and image merged.
    keys: Vec<(String, String)>,
    /// What the spec asks for and the guest does not get.
    not_honoured: Vec<String>,
}

/// One choice.
#[derive(Serialize)]
struct Choice {
    what: &'static str,
    value: String,
    reason: String,
}

impl Shown {
    /// Of a plan, and of what was decided at Start.
    pub fn of(plan: &Plan, late: Option<&Late>) -> Self {
        let Some(guest) = plan.guest() else {
            let (what, choices) = match plan.ordinary() {
                Some(ordinary) => ("an ordinary container", given(ordinary)),
                None => ("sandbox", vec![]),
            };
            return Self {
                what: what.to_owned(),
                monitor: None,
                command: vec![],
                choices,
                keys: vec![],
                not_honoured: vec![],
            };
        };
        let launch = late.map(|late| &late.launch).or(guest.launch.as_ref());
        let mut choices = vec![memory(guest), vcpus(guest), rootfs(guest, late), network(guest, late)];
        for reason in launch.iter().flat_map(|launch| &launch.reasons) {
            let (value, reason) = reason.split_once(": ").unwrap_or((reason, "by the guest's kind"));
            choices.push(Choice { what: "monitor", value: value.to_owned(), reason: reason.to_owned() });
        }
        Self {
            what: guest.guest.kind.as_str().to_owned(),
            monitor: Some(format!("{} ({})", guest.monitor, guest.program.display())),
            command: launch.map(|launch| launch.args.clone()).unwrap_or_default(),
            choices,
            keys: guest.keys.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            not_honoured: guest.not_honoured.clone(),
        }
    }

    /// As rows of a table.
    pub fn rows(self) -> Vec<(&'static str, Vec<String>)> {
        let choice = |c: &Choice| format!("{} {}: {}", c.what, c.value, c.reason);
        vec![
            ("PLAN", vec![self.what]),
            ("MONITOR", self.monitor.into_iter().collect()),
            ("CHOICES", self.choices.iter().map(choice).collect()),
            ("KEYS", self.keys.into_iter().map(|(key, value)| format!("{key} = {value:?}")).collect()),
            ("NOT HONOURED", self.not_honoured),
            ("MONITOR ARGS", if self.command.is_empty() { vec![] } else { vec![quoted(&self.command)] }),
        ]
    }
}

/// Words as a shell takes them.
fn quoted(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@%".contains(c);
    let quote = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Whom it was given to.
fn given(ordinary: &OrdinaryPlan) -> Vec<Choice> {
    let choice = |what, value: String, reason: &str| Choice { what, value, reason: reason.to_owned() };
    let oci = &ordinary.oci;
    let by = if oci.systemd_cgroup { "its cgroups are systemd's" } else { "its cgroups are its own" };
    let mut choices = vec![
        choice("OCI runtime", oci.program.display().to_string(), by),
        choice("its state", oci.root.display().to_string(), "nobody else's, so that nobody else removes it"),
    ];
    let rootfs = ordinary.rootfs.as_ref().map(|mounted| mounted.place.display().to_string());
    choices.extend(rootfs.map(|place| choice("rootfs", place, "mounted for it, in the host's mount table")));
    choices
}

fn memory(guest: &GuestPlan) -> Choice {
    let reason = match (guest.memory.rule, guest.memory.cgroup_bytes) {
        (MemoryRule::Default, _) => "the container has no limit, so this is the default".to_owned(),
        (MemoryRule::LimitPlusOverhead, bytes) => format!(
            "the container's limit; its cgroup gets {} bytes, with the monitor's overhead on top",
            bytes.unwrap_or_default()
        ),
        (MemoryRule::LimitMinusOverhead, bytes) => format!(
            "the container's limit, {} bytes, without the monitor's overhead, for which the parent cgroup has no room",
            bytes.unwrap_or_default()
        ),
    };
    Choice { what: "memory", value: format!("{} MiB", guest.memory.guest_mib), reason }
}

fn vcpus(guest: &GuestPlan) -> Choice {
    let reason = "the CPU quota rounded up, or the default without one".to_owned();
    Choice { what: "vcpus", value: guest.guest.vcpus.to_string(), reason }
}

fn rootfs(guest: &GuestPlan, late: Option<&Late>) -> Choice {
    let value = |rootfs: &GuestRootfs| match rootfs {
        GuestRootfs::None => "none".to_owned(),
        GuestRootfs::Initrd(path) => format!("initrd {path}"),
    };
    let (value, reason) = match (&guest.rootfs, late) {
        (RootfsChoice::Chosen(rootfs), _) => (value(rootfs), "by the image's keys".to_owned()),
        (RootfsChoice::AtStart(reason), Some(late)) => {
            (value(&late.rootfs), format!("chosen at Start: in Create {reason}"))
        }
        (RootfsChoice::AtStart(reason), None) => ("open".to_owned(), format!("chosen at Start: {reason}")),
    };
    Choice { what: "rootfs", value, reason }
}

fn network(guest: &GuestPlan, late: Option<&Late>) -> Choice {
    let known = |network: Option<&NetworkPlan>, when: &str| match network {
        Some(network) => {
            let addresses: Vec<String> =
                network.interface.addresses.iter().map(|a| format!("{}/{}", a.ip, a.prefix_len)).collect();
            let value = format!("{} by {}", network.interface.name, network.tap);
            (value, format!("the guest takes the interface's place{when}, {}", addresses.join(", ")))
        }
        None => {
            let why = "there is no interface, it is the host's, or another guest has it (the log says which)";
            ("none".to_owned(), format!("{why}{when}"))
        }
    };
    let (value, reason) = match (&guest.network, late) {
        (NetworkChoice::Known(network), _) => known(network.as_deref(), ""),
        (NetworkChoice::AtStart, Some(late)) => known(late.network.as_ref(), " (chosen at Start)"),
        (NetworkChoice::AtStart, None) => {
            ("open".to_owned(), "there was no interface yet: it is chosen at Start".to_owned())
        }
    };
    Choice { what: "network", value, reason }
}
