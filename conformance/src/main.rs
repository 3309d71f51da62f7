//! vfio-irq
fn main() {}
