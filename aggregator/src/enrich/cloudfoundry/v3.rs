//! Version 3 of the Cloud Controller's API: applications come with their spaces and organizations.

use std::collections::HashMap;

use serde::Deserialize;

use super::api::{Api, Failed};
use super::app::{App, Named};
use crate::dropsonde::Guid;

const INCLUDE: &str = "include=space,space.organization";

#[derive(Deserialize)]
struct Page {
    pagination: Pagination,
    resources: Vec<AppResource>,
    #[serde(default)]
    included: Included,
}

#[derive(Deserialize)]
struct Pagination {
    next: Option<Link>,
}

#[derive(Deserialize)]
struct Link {
    href: String,
}

#[derive(Deserialize)]
struct AppResource {
    guid: String,
    name: String,
    relationships: AppRelationships,
}

#[derive(Deserialize)]
struct AppRelationships {
    space: Related,
}

#[derive(Deserialize)]
struct Related {
    data: Reference,
}

#[derive(Deserialize)]
struct Reference {
    guid: String,
}

#[derive(Default, Deserialize)]
struct Included {
    #[serde(default)]
    spaces: Vec<Space>,
    #[serde(default)]
    organizations: Vec<Organization>,
}

#[derive(Deserialize)]
struct Space {
    guid: String,
    name: String,
    relationships: SpaceRelationships,
}

#[derive(Deserialize)]
struct SpaceRelationships {
    organization: Related,
}

#[derive(Deserialize)]
struct Organization {
    guid: String,
    name: String,
}

/// Lists applications of any state: those that stop still have events.
pub(super) async fn list(
    api: &Api,
    per_page: u32,
    most: usize,
    each: &mut impl FnMut(Vec<App>),
) -> Result<(), Failed> {
    let path = format!("/v3/apps?{INCLUDE}&per_page={per_page}&page=1");
    api.whole_list("apps", &path, most, |body| {
        let (apps, next) = read(api, body)?;
        each(apps);
        Ok(next)
    })
    .await
}

/// Asks for all of these at once.
pub(super) async fn look_up(api: &Api, guids: &[Guid]) -> Result<Vec<App>, Failed> {
    let names: Vec<String> = guids.iter().map(Guid::to_string).collect();
    let (names, count) = (names.join(","), names.len());
    let path = format!("/v3/apps?guids={names}&{INCLUDE}&per_page={count}&page=1");
    let mut found = Vec::new();
    let read = |body: &[u8]| {
        let (apps, next) = read(api, body)?;
        found.extend(apps);
        Ok(next)
    };
    // One is enough, unless the Cloud Controller has smaller ones.
    match api.pages("lookup", &path, count, read).await? {
        true => Ok(found),
        false => Err(Failed::for_good(
            "/v3/apps has more pages than applications were asked for",
        )),
    }
}

fn read(api: &Api, body: &[u8]) -> Result<(Vec<App>, Option<String>), Failed> {
    let garbage = |error| Failed::soon(format!("/v3/apps cannot be read: {error}"));
    let page: Page = serde_json::from_slice(body).map_err(garbage)?;
    let Included {
        spaces,
        organizations,
    } = page.included;
    let orgs: HashMap<String, Named> = organizations
        .into_iter()
        .map(|Organization { guid, name }| (guid.clone(), Named { guid, name }))
        .collect();
    let spaces: HashMap<String, (Named, String)> = spaces
        .into_iter()
        .map(|space| {
            let Space { guid, name, .. } = space;
            let org = space.relationships.organization.data.guid;
            (guid.clone(), (Named { guid, name }, org))
        })
        .collect();
    let app = |resource: AppResource| {
        let guid = Guid::parse(&resource.guid)?;
        let place = spaces
            .get(&resource.relationships.space.data.guid)
            .and_then(|(space, org)| Some((space, orgs.get(org)?)));
        let Some((space, org)) = place else {
            api.events.incomplete(&resource.guid);
            return None;
        };
        Some(App::new(guid, &resource.name, space, org))
    };
    let apps = page.resources.into_iter().filter_map(app).collect();
    Ok((apps, page.pagination.next.map(|link| link.href)))
}
