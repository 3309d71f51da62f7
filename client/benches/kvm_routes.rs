//! Routes in batches.

fn main() {}
