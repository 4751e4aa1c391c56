//! Fuzz target: any text as a template file. It is a template, which is written and read back as
//! the same, or gives mistakes with places inside the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use template::schema::{parse, summary, to_toml};

fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(template) => {
            assert_eq!(parse(&to_toml(&template)), Ok(template.clone()));
            let _ = summary(&template);
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(text.get(mistake.span.clone()).is_some());
                let _ = mistake.to_string();
            }
        }
    }
});
