#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| rbd::fuzzing::keyring(text));
