//! The ingress qdisc: ours, and those of others.

use host_net::{
    IngressRemoval, has_redirect, make_ingress, redirect, remove_ingress, remove_redirect, remove_stale,
};

use crate::ground::{A, census, filters, fresh, ip, is_as, mark, tap, tc, txid, veth};

#[test]
fn ours_comes_and_goes() {
    fresh(|| {
        let v = veth("v0");
        let before = census();
        assert!(make_ingress(v).unwrap());
        assert!(!make_ingress(v).unwrap(), "exclusive");
        assert_eq!(remove_ingress(v).unwrap(), IngressRemoval::Removed);
        assert_eq!(remove_ingress(v).unwrap(), IngressRemoval::Absent, "twice is fine");
        is_as(&before);
        assert!(make_ingress(v).unwrap(), "and again");
    });
}

#[test]
fn somebody_has_a_filter_in_it() {
    fresh(|| {
        let v = veth("v0");
        assert!(make_ingress(v).unwrap());
        tc("filter add dev v0 ingress protocol ip prio 5 u32 match ip dst 1.2.3.4/32 classid 1:1");
        let with = census();
        assert_eq!(remove_ingress(v).unwrap(), IngressRemoval::InUse);
        is_as(&with);
        tc("filter del dev v0 ingress protocol ip prio 5 u32");
        assert_eq!(remove_ingress(v).unwrap(), IngressRemoval::Removed);
    });
}

/// A redirect of ours in a hook that is somebody else's, with a filter of theirs.
fn guest_of(add: &str) {
    let v = veth("v0");
    let (_tun, t) = tap("t0");
    tc(add);
    for filter in [
        "protocol ip prio 5 u32 match ip dst 1.2.3.4/32 classid 1:1",
        "protocol all prio 49200 u32 match u8 0 0 action mirred egress redirect dev lo",
    ] {
        tc(&format!("filter add dev v0 ingress {filter}"));
    }
    let before = census();
    assert!(!make_ingress(v).unwrap(), "it is theirs");
    redirect(v, t, &mark(A, false)).unwrap();
    assert_ne!(census(), before);
    assert!(has_redirect(v, &txid(A)).unwrap());
    assert_eq!(
        remove_ingress(v).unwrap(),
        match add.ends_with("clsact") {
            true => IngressRemoval::Absent,
            false => IngressRemoval::InUse,
        }
    );
    assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 1);
    is_as(&before);
    assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 0);
    assert_eq!(remove_stale(v).unwrap(), []);
    is_as(&before);
}

#[test]
fn a_strangers_ingress() {
    fresh(|| guest_of("qdisc add dev v0 ingress"));
}

#[test]
fn a_strangers_clsact() {
    fresh(|| guest_of("qdisc add dev v0 clsact"));
}

#[test]
fn a_clsact_is_never_removed_even_when_empty() {
    fresh(|| {
        let v = veth("v0");
        tc("qdisc add dev v0 clsact");
        tc("filter add dev v0 egress protocol ip prio 5 u32 match ip dst 1.2.3.4/32 classid 1:1");
        let before = (census(), tc("filter show dev v0 egress"));
        assert_eq!(remove_ingress(v).unwrap(), IngressRemoval::Absent);
        assert_eq!((census(), tc("filter show dev v0 egress")), before);
    });
}

#[test]
fn a_block_that_interfaces_share() {
    fresh(|| {
        let v = veth("v0");
        tc("qdisc add dev v0 ingress_block 7 ingress");
        assert!(!make_ingress(v).unwrap());
        let before = census();
        let refused = redirect(v, v, &mark(A, false)).unwrap_err();
        assert!(refused.to_string().contains("block"), "{refused}");
        assert_eq!(remove_ingress(v).unwrap(), IngressRemoval::InUse);
        is_as(&before);
    });
}

#[test]
fn an_interface_that_is_gone() {
    fresh(|| {
        let v = veth("v0");
        let (_tun, t) = tap("t0");
        make_ingress(v).unwrap();
        redirect(v, t, &mark(A, true)).unwrap();
        ip("link del v0");
        for gone in [v, 0, 4711, u32::MAX] {
            assert_eq!(remove_redirect(gone, &txid(A)).unwrap(), 0, "{gone}");
            assert_eq!(remove_stale(gone).unwrap(), [], "{gone}");
            assert_eq!(remove_ingress(gone).unwrap(), IngressRemoval::Absent, "{gone}");
            assert!(!has_redirect(gone, &txid(A)).unwrap(), "{gone}");
            assert!(make_ingress(gone).is_err(), "{gone}");
            assert!(redirect(gone, t, &mark(A, false)).is_err(), "{gone}");
        }
    });
}

#[test]
fn no_qdisc_no_redirect() {
    fresh(|| {
        let v = veth("v0");
        let (_tun, t) = tap("t0");
        let before = census();
        let refused = redirect(v, t, &mark(A, false)).unwrap_err();
        assert!(refused.to_string().contains("Qdisc"), "the kernel's words are in it: {refused}");
        make_ingress(v).unwrap();
        assert!(redirect(v, 4711, &mark(A, true)).is_err(), "to nowhere");
        assert_eq!(filters("v0"), "", "a failed redirect leaves nothing");
        assert_eq!(remove_ingress(v).unwrap(), IngressRemoval::Removed);
        is_as(&before);
    });
}
