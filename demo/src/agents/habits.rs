//! What each kind of agent does in a session. Arguments come from earlier answers wherever a real agent's would.

use serde_json::{Value, json};

use super::agent::{Agent, column};
use super::plan::Habit;
use crate::office::TOPICS;

/// Walks one session of this habit to its end.
pub(super) async fn walk(habit: Habit, agent: &mut Agent) -> anyhow::Result<()> {
    if agent.loops() {
        start_working(habit, agent).await?;
        return run_in_circles(agent).await;
    }
    match habit {
        Habit::Assistant => assistant(agent).await,
        Habit::Bookkeeper => bookkeeper(agent).await,
        Habit::Researcher => researcher(agent).await,
        Habit::Planner => planner(agent).await,
        Habit::Archivist => archivist(agent).await,
        Habit::Support => support(agent).await,
    }
}

async fn assistant(agent: &mut Agent) -> anyhow::Result<()> {
    let inbox = agent.call("list_emails", json!({})).await?["emails"].take();
    let count = agent.random.between(1, 3);
    for id in agent.choose(&column(&inbox, "id"), count) {
        let body = agent.read(&id).await?;
        let Some(sender) = sender_of(&inbox, &id) else { continue };
        let date = word_after(&body, "on ").filter(|word| word.starts_with("2026-"));
        if let Some(date) = date.filter(|_| agent.random.unit() < 0.7) {
            agent.call("list_events", json!({ "date": date })).await?;
            let contact = agent.call("get_contact", json!({ "name": sender })).await?;
            invite(agent, "Call", &date, vec![contact["name"].clone()]).await?;
        }
        let subject = json!({ "to": sender, "subject": "Re: your message", "body": "Thank you, I have noted it." });
        agent.call("send_email", subject).await?;
    }
    Ok(())
}

async fn bookkeeper(agent: &mut Agent) -> anyhow::Result<()> {
    let invoices = agent.call("list_invoices", json!({ "status": "open" })).await?["invoices"].take();
    agent.call("get_balance", json!({})).await?;
    let count = agent.random.between(1, 3);
    for document in agent.choose(&column(&invoices, "document"), count) {
        agent.read(&document).await?;
        let records = invoices.as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(invoice) = records.iter().find(|invoice| invoice["document"] == document.as_str()) else { continue };
        let vendor = agent.call("get_contact", json!({ "name": invoice["vendor"] })).await?;
        let payment =
            json!({ "to_iban": vendor["iban"], "amount_cents": invoice["amount_cents"], "reference": invoice["id"] });
        agent.call("send_money", payment).await?;
        if agent.random.chance(0.6) {
            let advice = json!({ "to": vendor["email"], "subject": invoice["id"], "body": "Paid today." });
            agent.call("send_email", advice).await?;
        }
    }
    Ok(())
}

async fn researcher(agent: &mut Agent) -> anyhow::Result<()> {
    let topics = agent.random.between(1, 2);
    for topic in agent.random.sample(TOPICS, topics) {
        let hits = agent.call("search_files", json!({ "query": topic })).await?["hits"].take();
        let mut paths = column(&hits, "path");
        paths.dedup();
        let count = agent.random.between(1, 3);
        let mut texts = Vec::new();
        for path in agent.choose(&paths, count) {
            texts.push(agent.read(&path).await?);
        }
        let link = texts.iter().find_map(|text| word_after(text, "Source: "));
        if let Some(url) = link.filter(|_| agent.random.unit() < 0.6) {
            agent.call("http_get", json!({ "url": url })).await?;
        }
        let summary: Vec<&str> = texts.iter().filter_map(|text| text.lines().last()).collect();
        let path = format!("notes/{}.md", topic.replace(' ', "-"));
        agent.call("write_file", json!({ "path": path, "content": summary.join("\n") })).await?;
    }
    Ok(())
}

async fn planner(agent: &mut Agent) -> anyhow::Result<()> {
    let events = agent.call("list_events", json!({})).await?["events"].take();
    let count = agent.random.between(1, 3);
    for agenda in agent.choose(&column(&events, "agenda"), count) {
        agent.read(&agenda).await?;
        let records = events.as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(event) = records.iter().find(|event| event["agenda"] == agenda.as_str()) else { continue };
        let attendees: Vec<Value> = event["attendees"].as_array().cloned().unwrap_or_default();
        let date = event["start"].as_str().and_then(|start| start.get(..10)).unwrap_or("2026-11-30").to_owned();
        invite(agent, "Preparation", &date, attendees.clone()).await?;
        for name in attendees.iter().take(agent.random.between(1, 2)) {
            let contact = agent.call("get_contact", json!({ "name": name })).await?;
            let mail =
                json!({ "to": contact["email"], "subject": event["title"], "body": "Please prepare the agenda." });
            agent.call("send_email", mail).await?;
        }
    }
    Ok(())
}

async fn archivist(agent: &mut Agent) -> anyhow::Result<()> {
    let folder = "reports";
    let files = agent.call("list_files", json!({ "folder": folder })).await?["files"].take();
    let count = agent.random.between(2, 5);
    let chosen = agent.choose(&column(&files, "path"), count);
    let mut index = Vec::new();
    for path in chosen {
        let text = agent.read(&path).await?;
        index.push(format!("{path}: {}", text.lines().next().unwrap_or_default()));
    }
    agent.call("write_file", json!({ "path": "notes/index.md", "content": index.join("\n") })).await?;
    Ok(())
}

async fn support(agent: &mut Agent) -> anyhow::Result<()> {
    let files = agent.call("list_files", json!({ "folder": "support" })).await?["files"].take();
    let count = agent.random.between(1, 3);
    for ticket in agent.choose(&column(&files, "path"), count) {
        let text = agent.read(&ticket).await?;
        let topic = word_after(&text, "About: ").unwrap_or_else(|| "onboarding".to_owned());
        agent.call("search_files", json!({ "query": topic })).await?;
        let owner = word_after(&text, "Owner: ").unwrap_or_else(|| "Anna".to_owned());
        let contact = agent.call("get_contact", json!({ "name": owner })).await?;
        let mail =
            json!({ "to": contact["email"], "subject": format!("About {ticket}"), "body": "Could you have a look?" });
        agent.call("send_email", mail).await?;
    }
    Ok(())
}

/// The first, ordinary step of a session that will get stuck.
async fn start_working(habit: Habit, agent: &mut Agent) -> anyhow::Result<()> {
    let tool = match habit {
        Habit::Assistant => "list_emails",
        Habit::Bookkeeper => "list_invoices",
        Habit::Planner => "list_events",
        Habit::Researcher | Habit::Archivist | Habit::Support => "list_files",
    };
    agent.call(tool, json!({})).await?;
    Ok(())
}

/// The same call again and again, or two calls that hand over to each other.
async fn run_in_circles(agent: &mut Agent) -> anyhow::Result<()> {
    let topic = *agent.random.pick(TOPICS);
    let path = format!("research/{}.md", topic.replace(' ', "-"));
    let rounds = agent.random.between(10, 18);
    let two = agent.random.chance(0.5);
    agent.first_bad_call = Some(agent.calls);
    for _ in 0..rounds {
        agent.call("search_files", json!({ "query": topic })).await?;
        if two {
            agent.call("read_file", json!({ "path": path })).await?;
        }
    }
    Ok(())
}

async fn invite(agent: &mut Agent, title: &str, date: &str, attendees: Vec<Value>) -> anyhow::Result<()> {
    let hour = agent.random.between(9, 16);
    let event = json!({
        "title": title,
        "start": format!("{date}T{hour:02}:00"),
        "end": format!("{date}T{hour:02}:30"),
        "attendees": attendees,
    });
    agent.call("create_event", event).await?;
    Ok(())
}

fn sender_of(inbox: &Value, id: &str) -> Option<String> {
    let mail = inbox.as_array()?.iter().find(|mail| mail["id"] == id)?;
    mail["from"].as_str().map(str::to_owned)
}

/// The rest of the line after these words, up to a `<` or `?`.
fn word_after(text: &str, words: &str) -> Option<String> {
    let rest = &text[text.find(words)? + words.len()..];
    let line = rest.split(['\n', '<', '?']).next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}
