#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| egressd::laws::quic_initial(bytes));
