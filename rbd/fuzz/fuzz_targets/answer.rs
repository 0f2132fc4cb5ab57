#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rbd::fuzzing::answer(bytes));
