//! What is shown of pods against every containerd: each function here is a test in `cri_v1_6.rs` and in `cri_v2_3.rs`.
//!
//! Every test has a node of its own and ends with the leak check. A container's command replaces the image's whole
//! command, `args[0]` included. A Debian guest takes seconds to boot, so a pod's life shows several things at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

pub mod annotations;
pub mod apparmor;
pub mod attach;
pub mod failures;
pub mod limits;
pub mod logs;
pub mod many;
pub mod members;
pub mod namespaces;
pub mod network;
pub mod ordinary;
pub mod restart;
pub mod sharing;
pub mod sidecars;
pub mod stop;
pub mod volumes;

/// Makes a test of every function, in a module that is named after the version.
macro_rules! tests {
    ($name:ident, $version:ident) => {
        $crate::cri::tests! { $name, $version,
            annotations: those_of_a_pod_make_no_guest_of_its_sidecar;
            apparmor: a_sidecar_is_confined_by_the_default_profile;
            attach: a_terminal_is_attached_to_as_often_as_wanted;
            failures: a_pod_has_files_while_it_runs;
            failures: a_create_that_fails_harms_nobody_else;
            failures: a_daemon_that_is_killed_takes_its_pod_with_it;
            failures: containerd_is_killed_during_create;
            failures: a_start_that_fails_or_hangs_leaves_nothing;
            failures: a_start_that_gets_no_answer_harms_nobody;
            failures: a_daemon_that_dies_during_create_leaves_nothing;
            failures: a_delete_that_hangs_is_made_good_later;
            limits: guests_fill_their_memory_under_the_pods_limit;
            limits: limits_are_updated_while_a_guest_runs;
            limits: the_handlers_options_are_those_of_its_guests;
            limits: the_sandboxs_oom_score_follows_its_containers;
            logs: the_log_has_every_byte;
            many: pods_of_a_guest_and_two_sidecars_come_and_go;
            many: twenty_pods_come_and_go_at_once;
            members: guests_of_a_pod_come_and_go_in_any_order;
            members: the_second_guest_has_no_network;
            members: a_pod_that_is_stopped_first_takes_its_guests_with_it;
            namespaces: pid_namespaces_are_the_pods_or_the_containers_own_or_the_hosts;
            namespaces: a_pod_in_the_hosts_network_touches_nothing_of_it;
            network: a_guest_is_reached_and_reaches_the_host;
            network: a_foreign_qdisc_and_its_filter_survive;
            network: what_a_dead_guest_left_does_not_block_the_next;
            ordinary: ordinary_pods_run_beside_ours;
            restart: pods_outlive_containerd;
            restart: sidecars_and_what_is_executed_in_them_outlive_containerd;
            restart: containerd_is_killed_at_random_moments;
            sharing: a_debug_container_sees_its_targets_processes;
            sharing: a_shared_pid_namespace_is_the_pods;
            sidecars: a_pod_of_busybox_answers_every_verb;
            sidecars: an_init_container_then_a_guest_with_its_sidecar;
            sidecars: a_guest_and_its_sidecar_reach_each_other;
            sidecars: a_sidecar_finds_what_it_finds_under_runc;
            stop: a_guest_is_asked_and_then_killed;
            volumes: a_volume_is_read_only_with_all_that_is_mounted_below;
            volumes: a_sidecar_sees_what_changes_in_its_volumes;
        }
    };
    ($name:ident, $version:ident, $($part:ident: $test:ident;)*) => {
        mod $name {
            use urunc_tests::harness::Version;
            $(
                #[test]
                fn $test() {
                    $crate::cri::$part::$test(Version::$version);
                }
            )*
        }
    };
}
pub(crate) use tests;
