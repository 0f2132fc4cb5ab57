//! The thread of a survey, which queries many images at the same time and passes on the answers.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::calls::{HeadCalls, Rare, Trouble};
use super::handover::{Consumer, End, Handover, Item, Patience, ROOM};
use super::image::{Common, Found, Space};
use super::parent::Parents;
use super::permits::Permits;
use super::wakes::Wakes;
use super::{Plan, SurveyedImage, librbd};
use crate::aio::timer::Alarm;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, Result};
use crate::ioctx::{ImageEntry, IoCtx};
use crate::raw::thread::mark::ThreadOfUser;
use crate::raw::thread::park::wait_for;
use crate::raw::thread::worker;

pub(super) const OPERATION: &str = "survey";

/// The most bytes of object maps in memory, unless one image needs more.
const MAPS: u64 = 16 << 20;

/// How many images librbd has open, as in `rbd ls -l`.
const OPEN: u64 = 10;

/// How often, and after which pause, an image without a header is queried again: it may be being
/// created.
const AGAIN: (usize, Duration) = (3, Duration::from_millis(100));

/// An image to query.
#[derive(Debug)]
pub(super) struct Listed {
    space: usize,
    entry: ImageEntry,
}

/// The namespaces, and the images in them.
pub(super) type List = (Vec<IoCtx>, Vec<Listed>);

/// The images of a survey as an iterator: see [`Survey::run`](super::Survey::run).
///
/// Dropping it ends the survey.
#[derive(Debug)]
pub struct SurveyedImages {
    total: usize,
    way: Consumer,
}

/// The images of a survey, each of which is awaited: see [`Survey::start`](super::Survey::start).
///
/// Dropping it ends the survey.
#[derive(Debug)]
pub struct SurveyedStream {
    way: Consumer,
    patience: Patience,
}

/// Lists the namespaces and images to query. Blocks.
pub(super) fn list(ioctx: &IoCtx, plan: Plan, only: Option<&str>) -> Result<List> {
    let mut spaces = vec![ioctx.clone()];
    if plan.all_namespaces {
        let pool = ioctx.with_namespace("")?;
        let mut names = pool.namespaces().list()?;
        names.sort_unstable();
        spaces = vec![pool.clone()];
        for name in names {
            spaces.push(pool.with_namespace(&name)?);
        }
    }
    let mut images = Vec::new();
    for (space, pool) in spaces.iter().enumerate() {
        let entries = if plan.trash { trashed(pool) } else { pool.list() };
        let entries = match entries {
            // The namespace was removed after it was listed.
            Err(error) if space > 0 && error.is_not_found() => continue,
            entries => entries?,
        };
        images.extend(entries.into_iter().map(|entry| Listed { space, entry }));
    }
    if let Some(name) = only {
        images.retain(|listed| listed.entry.name == name);
    }
    Ok((spaces, images))
}

/// Lists the images in the trash.
fn trashed(pool: &IoCtx) -> Result<Vec<ImageEntry>> {
    let trash = pool.trash().list()?;
    Ok(trash.into_iter().map(|trashed| ImageEntry { name: trashed.name, id: trashed.id }).collect())
}

/// Begins to query the listed images.
pub(super) fn begin(ioctx: &IoCtx, plan: Plan, listed: List) -> Result<SurveyedImages> {
    let total = listed.1.len();
    let way = spawn(ioctx, move |driver| driver.run(plan, listed))?;
    Ok(SurveyedImages { total, way })
}

/// Begins to list and to query images.
pub(super) fn start(ioctx: &IoCtx, plan: Plan, only: Option<&str>) -> Result<SurveyedStream> {
    let (own, only) = (ioctx.clone(), only.map(str::to_owned));
    spawn(ioctx, move |driver| match list(&own, plan, only.as_deref()) {
        Ok(listed) => driver.run(plan, listed),
        Err(error) => {
            driver.handover.push(&mut vec![Err(error)]);
        }
    })
    .map(|way| SurveyedStream { way, patience: Patience::default() })
}

fn spawn(ioctx: &IoCtx, work: impl FnOnce(Driver) + Send + 'static) -> Result<Consumer> {
    let wakes = Arc::new(Wakes::default());
    let handover = Arc::new(Handover::new(Arc::clone(&wakes)));
    let driver = Driver { handover: Arc::clone(&handover), wakes };
    let ended = End(Arc::clone(&handover));
    let started = worker::start(move || {
        // Also runs if the work panics.
        let _ended = ended;
        let _thread = ThreadOfUser::set();
        work(driver);
    });
    match started {
        Ok(_) => {}
        Err(errno) => {
            let why = "no thread can be started for the survey; run fewer calls at a time";
            return Err(Error::new(OPERATION, ioctx.pool_object(), errno).with_detail(why));
        }
    }
    let timeout = ioctx.cluster().raw().call_timeout();
    Ok(Consumer { handover, ioctx: ioctx.clone(), timeout, taken: VecDeque::new(), refused: false })
}

impl SurveyedImages {
    /// Returns how many images were listed. The iterator returns at most as many.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl Iterator for SurveyedImages {
    type Item = Result<SurveyedImage>;

    fn next(&mut self) -> Option<Item> {
        self.way.wait()
    }
}

impl SurveyedStream {
    /// Returns the next image when it is known; `None` at the end.
    ///
    /// Fails with [`TimedOut`](ErrorKind::TimedOut), and ends, if no answer comes within the [call
    /// timeout](crate::ClusterBuilder::call_timeout). Dropping the future loses no image.
    pub async fn next(&mut self) -> Option<Result<SurveyedImage>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for SurveyedStream {
    type Item = Result<SurveyedImage>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        let SurveyedStream { way, patience } = &mut *self;
        way.poll(context, patience)
    }
}

/// The state of the thread.
struct Driver {
    handover: Arc<Handover>,
    wakes: Arc<Wakes>,
}

type Looking = Pin<Box<dyn Future<Output = Option<Item>>>>;

impl Driver {
    fn run(self, plan: Plan, (pools, images): List) {
        let space = |pool: &IoCtx| Space {
            raw: Arc::clone(pool.raw()),
            cluster: Arc::clone(pool.cluster().raw()),
            namespace: pool.namespace().to_owned(),
        };
        let spaces: Vec<_> = pools.into_iter().map(|pool| Rc::new((space(&pool), pool))).collect();
        let mut removing = Vec::new();
        for (number, place) in spaces.iter().enumerate() {
            let asked = !plan.trash && images.iter().any(|listed| listed.space == number);
            match if asked { wait_for(place.0.removing()) } else { Ok(HashSet::new()) } {
                Ok(ids) => removing.push(ids),
                Err(trouble) => {
                    let error = Error::new(OPERATION, place.1.pool_object(), trouble.errno());
                    self.handover.push(&mut vec![Err(place.1.explain_pool(error))]);
                    return;
                }
            }
        }
        let common = Rc::new(Common {
            parents: Parents::default(),
            calls: RefCell::new(Rc::new(HeadCalls::new(plan, Rare::default()))),
            maps: Permits::new(MAPS),
            open: Permits::new(OPEN),
        });
        let slots = plan.max_in_flight.min(images.len());
        let wakers: Vec<_> = (0..slots).map(|slot| self.wakes.waker(slot)).collect();
        let mut flying: Vec<Option<(usize, Looking)>> = (0..slots).map(|_| None).collect();
        let mut waiting = images.into_iter().enumerate().peekable();
        // Images whose answers arrived before their turn.
        let (mut early, mut turn) = (BTreeMap::new(), 0);
        let mut free: Vec<usize> = (0..slots).collect();
        let mut ready = Vec::new();
        let mut known = Vec::new();
        loop {
            while let Some(slot) = free.pop() {
                let fits = |(index, _): &(usize, Listed)| !plan.sorted || *index < turn + ROOM + slots;
                let Some((index, listed)) = waiting.next_if(fits) else {
                    free.push(slot);
                    break;
                };
                let half = removing[listed.space].contains(&listed.entry.id);
                let (space, common) = (Rc::clone(&spaces[listed.space]), Rc::clone(&common));
                flying[slot] = Some((index, Box::pin(look(space, plan, listed.entry, half, common))));
                ready.push(slot);
            }
            let in_flight = slots - free.len();
            if in_flight == 0 {
                return;
            }
            let wanted = match ready.is_empty() {
                false => 0,
                // Others wait for the end of one image.
                true if common.open.is_used() || common.maps.is_short() => 1,
                // The OSDs have the other half to work on.
                true => in_flight.div_ceil(2),
            };
            if !self.wakes.wait(wanted, &mut ready) {
                return;
            }
            for slot in ready.drain(..) {
                let Some((index, looking)) = &mut flying[slot] else { continue };
                let Poll::Ready(found) = looking.as_mut().poll(&mut Context::from_waker(&wakers[slot]))
                else {
                    continue;
                };
                early.insert(*index, found);
                flying[slot] = None;
                free.push(slot);
                while let Some(first) = early.first_entry() {
                    if plan.sorted && *first.key() != turn {
                        break;
                    }
                    turn += 1;
                    known.extend(first.remove());
                }
            }
            if !self.handover.push(&mut known) {
                return;
            }
        }
    }
}

/// Queries an image. Returns `None` if it was removed.
async fn look(
    space: Rc<(Space, IoCtx)>,
    plan: Plan,
    entry: ImageEntry,
    half_removed: bool,
    common: Rc<Common>,
) -> Option<Item> {
    let (osds, ioctx) = &*space;
    let mut again = AGAIN.0;
    let answer = loop {
        match osds.look(plan, &entry, &common).await {
            Ok(Found::Image(image)) if image.half_removed && !half_removed && again > 0 => {
                again -= 1;
                pause(AGAIN.1).await;
            }
            answer => break answer,
        }
    };
    let found = match answer {
        Ok(Found::Gone) => return None,
        Ok(Found::Image(mut image)) => {
            image.half_removed |= half_removed;
            let whole = !plan.watchers && (!plan.usage || image.used.is_some());
            if whole || image.half_removed {
                return Some(Ok(*image));
            }
            by_librbd(ioctx, &common, move |ioctx| librbd::complete(ioctx, plan, *image)).await
        }
        Err(Trouble::Errno(errno)) => {
            let error = Error::new(OPERATION, ioctx.image_object(&entry.name), errno);
            // An answer that only this crate cannot decode goes to librbd.
            let error = match errno {
                Errno::EBADMSG => error.with_detail(
                    "its header is damaged: values in it are impossible or missing; restore the image from a \
                     backup",
                ),
                _ => error,
            };
            return Some(Err(ioctx.explain_pool(error)));
        }
        Err(Trouble::AskLibrbd | Trouble::Changed) => {
            let entry = entry.clone();
            by_librbd(ioctx, &common, move |ioctx| librbd::look(ioctx, plan, &entry)).await
        }
    };
    match found {
        // The image exists if what is missing is its parent, or the source of its migration.
        Err(error) if *error.kind() == missing_image() && !osds.exists(&entry).await => None,
        found => Some(found),
    }
}

/// Waits. Without a timer it does not.
async fn pause(time: Duration) {
    let end = Instant::now() + time;
    let mut alarm = None;
    poll_fn(|context| {
        if Instant::now() >= end {
            return Poll::Ready(());
        }
        alarm = Alarm::new(end, context.waker().clone()).ok();
        if alarm.is_some() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

fn missing_image() -> ErrorKind {
    ErrorKind::NotFound { what: crate::error::ObjectKind::Image }
}

/// Makes blocking calls on a separate thread.
async fn by_librbd(
    ioctx: &IoCtx,
    common: &Common,
    call: impl FnOnce(&IoCtx) -> Item + Send + 'static,
) -> Item {
    let _permit = common.open.take(1).await;
    let own = ioctx.clone();
    let started = worker::start(move || {
        let _thread = ThreadOfUser::set();
        call(&own)
    });
    match started {
        Ok(started) => started.await,
        Err(errno) => {
            let object: Object = ioctx.pool_object();
            let why = "no thread can be started for a call; survey fewer images at a time";
            Err(Error::new(OPERATION, object, errno).with_detail(why))
        }
    }
}
