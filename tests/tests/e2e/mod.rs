//! What is shown against every containerd: each function here is a test in `e2e_v1_6.rs` and in `e2e_v2_3.rs`.
//!
//! Every test has a containerd of its own and ends with the leak check. `ctr run IMAGE ID ARGS` replaces the whole
//! command, `args[0]` included.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test's own code")]

pub mod cancel;
pub mod contract;
pub mod daemon;
pub mod delete;
pub mod kill;
pub mod limits;
pub mod ordinary;
pub mod output;
pub mod restart;
pub mod run;
pub mod side_by_side;
pub mod stdio;
pub mod tasks;

/// Makes a test of every function, in a module that is named after the version.
macro_rules! tests {
    ($name:ident, $version:ident) => {
        $crate::e2e::tests! { $name, $version,
            cancel: a_client_that_goes_away_in_the_middle_of_create_leaves_nothing;
            contract: what_the_request_alone_shows_is_refused_before_anything_exists;
            contract: what_the_image_shows_is_refused_and_undone;
            contract: arguments_reach_init_unchanged;
            contract: a_command_line_that_is_too_long_is_an_error_that_says_so;
            daemon: a_daemon_that_is_killed_takes_its_guest_with_it_and_leaves_nothing;
            delete: a_running_container_is_not_deleted_and_a_stopped_one_is;
            delete: a_created_container_is_deleted;
            delete: a_late_delete_of_an_older_container_does_nothing;
            kill: the_status_is_128_and_the_signal;
            kill: term_presses_the_power_button_of_a_debian_guest;
            kill: a_power_off_is_unproven;
            limits: a_tiny_guest_fills_its_memory_under_the_limit;
            limits: a_debian_guest_fills_its_memory_under_the_limit_and_has_its_cpus;
            ordinary: busybox_says_what_it_has_to_and_ends_with_its_own_status;
            ordinary: processes_are_executed_in_busybox;
            ordinary: busybox_outlives_containerd_and_not_its_daemon;
            output: ten_megabytes_arrive_intact;
            output: a_last_line_without_its_end_arrives;
            restart: a_guest_outlives_containerd_and_its_exit_is_told;
            restart: an_exit_while_containerd_is_down_is_told_afterwards;
            run: the_console_is_printed_and_the_status_is_the_guests;
            run: the_same_id_is_used_again_at_once_two_hundred_times;
            run: a_guest_that_exits_at_once_is_started_a_hundred_times;
            side_by_side: two_containerds_have_the_same_namespace_and_id;
            tasks: a_paused_guest_stays_so_over_a_restart_of_containerd;
            tasks: metrics_are_there_from_created_to_the_end;
            tasks: exec_and_checkpoint_are_refused_at_once_with_a_sentence;
            stdio: a_log_file_gets_the_output;
            stdio: a_logger_gets_the_output;
            stdio: a_terminal_shows_the_output_and_ends_with_the_guest;
            stdio: a_client_attaches_after_another_one;
            tasks: the_leak_check_sees_a_container_that_runs;
            tasks: the_pid_is_alive_and_is_the_monitor;
        }
    };
    ($name:ident, $version:ident, $($part:ident: $test:ident;)*) => {
        mod $name {
            use urunc_tests::harness::Version;
            $(
                #[test]
                fn $test() {
                    $crate::e2e::$part::$test(Version::$version);
                }
            )*
        }
    };
}
pub(crate) use tests;
