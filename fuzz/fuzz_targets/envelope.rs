#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| undercurrent::fuzzing::run("envelope", bytes));
