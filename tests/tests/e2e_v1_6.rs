//! End to end against containerd 1.6, Debian 12's.

mod e2e;

e2e::tests!(v1_6, V1_6);
