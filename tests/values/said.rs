//! What the processes of one stack have said, and what the next one may find.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What was begun and what was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Said {
    appends: BTreeSet<String>,
    appended: BTreeSet<String>,
    increments: u64,
    incremented: u64,
    published: u64,
    swept: u64,
}

impl Said {
    /// Takes a line of a process; an error where it cannot be so.
    pub(crate) fn hear(&mut self, line: &str) -> Result<(), String> {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse::<u64>().map_err(|_| format!("{line:?} has no number"));
        match what {
            "append" => drop(self.appends.insert(rest.to_owned())),
            "appended" => drop(self.appended.insert(rest.to_owned())),
            "increment" => self.increments += 1,
            "incremented" => self.incremented += 1,
            "published" => self.published += 1,
            "swept" => self.swept += number()?,
            "log" => self.check_log(rest.split_whitespace().collect())?,
            "count" => self.check_count(number()?)?,
            "lost" => return Err(format!("a root refers to {rest}, which is not there")),
            "garbage" => return Err(format!("{rest} is left, and nothing refers to it")),
            _ => return Err(line.to_owned()),
        }
        Ok(())
    }

    fn check_log(&self, elements: Vec<&str>) -> Result<(), String> {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for element in &elements {
            let (writer, number) = element.rsplit_once('-').ok_or_else(|| format!("element {element:?}"))?;
            let number: u64 = number.parse().map_err(|_| format!("element {element:?}"))?;
            if let Some(before) = last.insert(writer, number)
                && before >= number
            {
                return Err(format!("{element} comes after {before} of its writer: twice, or out of order"));
            }
            if !self.appends.contains(*element) {
                return Err(format!("{element} was never appended"));
            }
        }
        let found: BTreeSet<&str> = elements.into_iter().collect();
        match self.appended.iter().find(|element| !found.contains(element.as_str())) {
            Some(element) => Err(format!("{element} was acknowledged, and is lost")),
            None => Ok(()),
        }
    }

    fn check_count(&self, count: u64) -> Result<(), String> {
        if (self.incremented..=self.increments).contains(&count) {
            return Ok(());
        }
        let (least, most) = (self.incremented, self.increments);
        Err(format!("the count is {count}; {least} increments were acknowledged and {most} begun"))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { appended, incremented, published, swept, .. } = self;
        let appended = appended.len();
        write!(f, "{appended} appended, {incremented} counted, {published} published, {swept} swept")
    }
}
