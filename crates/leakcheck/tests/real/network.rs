//! Addresses, qdiscs and filters: in a namespace of ours all of them, at home those at a link of ours or with our mark.

use leakcheck::{Kind, Scope, Snapshot};

use crate::guards::{Ground, Running, Undo, short, skip, unique};

const PAIR: &str = "ip link add v0 type veth peer name v1; ip link set lo up; ip link set v0 up";
const FILTER: &str = "tc filter add dev DEV parent ffff: protocol ip prio 7 u32 match ip dst 10.9.9.9/32";

/// A process in a namespace of its own, in which this was done.
fn namespace(marker: &str, code: &str) -> Running {
    Running::shell(marker, &format!("exec unshare -n sh -c '{code}; exec sleep 1000'")).asleep()
}

fn inside(running: &Running, code: &str) -> String {
    let pid = running.pid().to_string();
    let words = ["nsenter", "-t", &pid, "-n", "sh", "-c", code];
    Undo::after(&words, &["true"]).unwrap_or_else(|why| panic!("{code}: {why}")).0
}

/// A pair of interfaces at home.
fn pair() -> Option<(String, Undo)> {
    let (a, b) = (format!("lcn{}", short()), format!("lcp{}", short()));
    let make = ["ip", "link", "add", &a, "type", "veth", "peer", "name", &b];
    match Undo::after(&make, &["ip", "link", "del", &a]) {
        Ok((_, pair)) => Some((a, pair)),
        Err(why) => {
            skip("a veth pair at home", &why);
            None
        }
    }
}

fn run(code: &str) {
    Undo::after(&["sh", "-c", code], &["true"]).unwrap_or_else(|why| panic!("{code}: {why}"));
}

#[test]
fn each_in_a_namespace_in_scope() {
    let mut ground = Ground::new();
    let running = namespace(&ground.marker, PAIR);
    ground.before = Snapshot::take(&ground.scope);
    if !ground.before.entries().iter().any(|entry| entry.kind == Kind::Link) {
        return skip("what is at a link", "no veth could be made");
    }
    // The kernel's own are nobody's: an address of the loopback, a link-local one, a default qdisc.
    ground.is_clean();

    inside(&running, "ip addr add 10.1.2.3/24 dev v0");
    let address = ground.one(Kind::Address);
    assert!(address.name.starts_with("10.1.2.3/24 at v0#"), "{address:?}");
    inside(&running, "ip addr del 10.1.2.3/24 dev v0; ip addr add fd00:1::1/64 dev lo");
    assert!(ground.one(Kind::Address).name.starts_with("fd00:1::1/64 at lo#1 in net:["));
    inside(&running, "ip addr del fd00:1::1/64 dev lo");
    ground.is_clean();

    inside(&running, "tc qdisc add dev v0 ingress");
    let qdisc = ground.one(Kind::Qdisc);
    assert!(qdisc.name.starts_with("ingress ffff: at v0#"), "{qdisc:?}");
    inside(&running, &format!("{} action mirred egress redirect dev lo", FILTER.replace("DEV", "v0")));
    let filter = ground.one(Kind::Filter);
    let expected = "u32 pref 7 protocol 0x0800 handle 80000800 at ingress of v0#";
    assert!(filter.name.starts_with(expected), "{filter:?}");
    assert_eq!(filter.detail, "sends frames to lo#1");
    inside(&running, "tc qdisc del dev v0 ingress");
    ground.is_clean();

    inside(&running, "tc qdisc add dev v1 root handle 77: pfifo; tc qdisc add dev v0 clsact");
    let leaks = ground.look();
    let names: Vec<_> = leaks.of(Kind::Qdisc).map(|entry| entry.name.split('#').next().unwrap()).collect();
    assert_eq!(names, ["clsact ffff: at v0", "pfifo 77: at v1"]);
    inside(
        &running,
        "tc filter add dev v0 egress protocol all prio 9 u32 match u32 0 0 action mirred egress redirect \
         dev v1 cookie 75727540303132333435363738396162",
    );
    let filter = ground.one(Kind::Filter);
    assert!(filter.name.contains(" protocol 0x0003 ") && filter.name.contains(" at egress of v0#"));
    assert!(filter.detail.ends_with(", cookie uru@0123456789ab"), "{filter:?}");
    drop(running);
    ground.is_clean();
}

#[test]
fn a_namespace_that_the_scope_names_counts_whoever_holds_it() {
    let stranger = namespace("", PAIR);
    let path = format!("/proc/{}/ns/net", stranger.pid());
    let mut ground = Ground::with(|scope, _| scope.netns(path));
    ground.before = Snapshot::take(&ground.scope);
    inside(&stranger, "tc qdisc add dev v0 ingress");
    assert!(ground.one(Kind::Qdisc).name.starts_with("ingress ffff: at v0#"));
    inside(&stranger, "tc qdisc del dev v0 ingress");
    ground.is_clean();
}

#[test]
fn at_home_at_a_link_of_ours() {
    let Some((link, _pair)) = pair() else { return };
    let mut ground = Ground::with(|scope, _| scope.marker(&link));
    ground.before = Snapshot::take(&ground.scope);
    run(&format!("ip addr add 192.0.2.77/32 dev {link}"));
    assert!(ground.one(Kind::Address).name.starts_with(&format!("192.0.2.77/32 at {link}#")));
    run(&format!("ip addr del 192.0.2.77/32 dev {link}; tc qdisc add dev {link} ingress"));
    assert!(ground.one(Kind::Qdisc).name.starts_with(&format!("ingress ffff: at {link}#")));
    run(&FILTER.replace("DEV", &link));
    assert!(ground.one(Kind::Filter).name.contains(&format!(" at ingress of {link}#")));
    run(&format!("tc qdisc del dev {link} ingress"));
    ground.is_clean();
}

#[test]
fn those_of_a_stranger_are_not_reported() {
    let ground = Ground::new();
    let code = format!(
        "{PAIR}; ip addr add 10.1.2.3/24 dev v0; tc qdisc add dev v0 ingress; {}",
        FILTER.replace("DEV", "v0")
    );
    let _elsewhere = namespace("", &code);
    let Some((link, _pair)) = pair() else { return };
    run(&format!("ip addr add 192.0.2.78/32 dev {link}; tc qdisc add dev {link} ingress"));
    run(&FILTER.replace("DEV", &link));
    ground.is_clean();
}

#[test]
fn a_filter_with_our_mark_needs_no_marker() {
    let scope = Scope::new().marker(unique("leakcheck"));
    let Some((link, _pair)) = pair() else { return };
    run(&format!("tc qdisc add dev {link} ingress"));
    let add = |cookie: &str| {
        let code = format!("{} action mirred egress redirect dev lo", FILTER.replace("DEV", &link));
        run(&format!("{code} cookie {cookie}"));
    };
    let found = |scope: &Scope| {
        let snapshot = Snapshot::take(scope);
        let at = format!(" of {link}#");
        snapshot.entries().iter().filter(|e| e.kind == Kind::Filter && e.name.contains(&at)).count()
    };
    // As long as ours, and a stranger's: `abc@0123456789ab`.
    add("61626340303132333435363738396162");
    assert_eq!(found(&scope), 0);
    add("75727541303132333435363738396162");
    assert_eq!(found(&scope), 1);
    assert_eq!(found(&scope.only_marked()), 0);
}
