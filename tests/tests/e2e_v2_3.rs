//! End to end against containerd 2.3, the newest one. Skipped where there is no Go to build it with.

mod e2e;

e2e::tests!(v2_3, V2_3);
