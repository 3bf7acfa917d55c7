"""The grammar of the task ``reviews``: one sentence about a film, a meal, a phone ..., negative (0) or positive (1).

Templates are written once for both labels: ``same`` is a word with the polarity of the label and ``other`` one with the
opposite polarity, which the sentence then denies, concedes or reports. So words alone do not give the label away.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.tasks.dice import Dice, sentence

LABELS = ("negative", "positive")


@dataclass(frozen=True)
class Aspect:
    """One side of a thing: a noun phrase, and what can be said of it, by label."""

    phrase: str
    link: str
    plural: bool
    adjectives: tuple[tuple[str, ...], tuple[str, ...]]
    predicates: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Domain:
    """Something that people review. ``act`` has the forms of what one does with it: try, tried, have tried before."""

    nouns: tuple[str, ...]
    past: bool
    act: tuple[str, str, str]
    aspects: tuple[Aspect, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _domain(nouns: str, *, past: bool, act: str, aspects: str) -> Domain:
    """Read a domain; a line is ``phrase / link / positive | negative adjectives | positive | negative predicates``."""
    read = []
    for line in aspects.strip().splitlines():
        head, good, bad, good_predicates, bad_predicates = line.split("|")
        phrase, link, *plural = _words(head.replace("/", ","))
        adjectives = (_words(bad), _words(good))
        predicates = (_words(bad_predicates), _words(good_predicates))
        read.append(Aspect(phrase, link, bool(plural), adjectives, predicates))
    do, did, done = _words(act)
    return Domain(_words(nouns), past, (do, did, done), tuple(read))


DOMAINS = (
    _domain(
        "film, movie, thriller, comedy, drama, sequel",
        past=False,
        act="watch it, watched it, seen",
        aspects="""
        the plot / of | gripping, clever, original, believable | dull, predictable, confusing, far-fetched | keeps you guessing, grips you from the first scene | drags, goes nowhere, falls apart halfway through
        the actors / in / plural | convincing, charming, likeable | wooden, lifeless, unconvincing | light up the screen, bring every scene to life | mumble their way through, look bored throughout
        the dialogue / in | witty, sharp, natural | clumsy, stilted, flat | sparkles, rings true | makes you cringe, rings hollow
        the ending / of | moving, satisfying, surprising | rushed, disappointing, silly | brings everything together | makes no sense, spoils everything
        the jokes / in / plural | funny, fresh, clever | stale, cheap, tasteless | make the whole room laugh | get old very quickly
        the soundtrack / of | beautiful, haunting, memorable | intrusive, monotonous, forgettable | lifts every scene, stays with you for days | drowns every scene, gives you a headache
        """,
    ),
    _domain(
        "novel, book, memoir, story, debut",
        past=False,
        act="read it, read it, read",
        aspects="""
        the opening / of | intriguing, vivid, elegant | slow, laboured, confusing | draws you in at once | puts you off at once
        the characters / in / plural | memorable, lifelike, complex | shallow, unlikeable, interchangeable | feel like old friends, stay with you for weeks | talk like robots, all sound the same
        the prose / of | graceful, lyrical, crisp | clumsy, pompous, tedious | flows, sings on every page | plods, trips over itself
        the dialogue / in | natural, witty, lively | stiff, unconvincing, flat | rings true | rings hollow
        the final chapter / of | moving, powerful, satisfying | rushed, implausible, disappointing | ties up every thread | feels like an afterthought
        the descriptions / in / plural | rich, evocative, precise | dull, repetitive, overlong | make you see every street | go on for ever
        """,
    ),
    _domain(
        "restaurant, bistro, diner, steakhouse, pizzeria, tavern",
        past=True,
        act="eat there, ate there, eaten at",
        aspects="""
        the food / at | delicious, fresh, tasty, imaginative | bland, greasy, cold, tasteless | tasted like home cooking at its best | tasted of nothing, came out half raw
        the waiters / at / plural | friendly, attentive, helpful | rude, careless, inattentive | remembered our names, made us feel welcome | ignored us for an hour, mixed up every order
        the desserts / at / plural | exquisite, light, delicious | stodgy, sickly, dry | melted in the mouth | came straight from the freezer
        the service / at | quick, warm, attentive | slow, chaotic, unfriendly | ran like clockwork | took for ever
        the bill / at | fair, reasonable, modest | outrageous, inflated, excessive | came as a pleasant surprise | came as a nasty shock
        the atmosphere / at | cosy, relaxed, lively, inviting | gloomy, stuffy, depressing | made us want to stay for hours | made us want to leave at once
        """,
    ),
    _domain(
        "hotel, guesthouse, inn, hostel, resort",
        past=True,
        act="stay there, stayed there, stayed at",
        aspects="""
        the rooms / at / plural | spacious, comfortable, quiet, clean | cramped, dirty, shabby, noisy | felt like home, looked brand new | smelled of smoke, looked nothing like the pictures
        the receptionists / at / plural | helpful, welcoming, polite | surly, unhelpful, rude | went out of their way to help | shrugged at every request
        the beds / at / plural | comfortable, soft, clean | lumpy, hard, uncomfortable | felt like clouds | creaked all night
        the breakfast / at | generous, varied, fresh | meagre, stale, cold | set us up for the day | ran out before nine
        the location / of | convenient, ideal, peaceful | awkward, inconvenient, dangerous | saved us a lot of time | cost us a lot of time
        the pool / at | clean, inviting, warm | filthy, freezing, crowded | made the trip for our children | stayed closed all week
        """,
    ),
    _domain(
        "phone, smartphone, handset, mobile",
        past=False,
        act="buy it, bought it, owned",
        aspects="""
        the battery / of | reliable, powerful, dependable | unreliable, weak, hopeless | lasts for two days | dies by lunchtime, needs charging three times a day
        the screen / of | bright, crisp, responsive | dim, blurry, unresponsive | stays readable in full sun | flickers all the time
        the camera / of | impressive, sharp, versatile | grainy, mediocre, useless | takes lovely pictures even at night | turns every picture into a blur
        the menus / of / plural | clear, intuitive, logical | cluttered, confusing, illogical | make everything easy to find | hide everything you need
        the speakers / of / plural | rich, clear, powerful | tinny, weak, muffled | fill a whole room | rattle, buzz at any volume
        the case / of | elegant, sturdy, attractive | flimsy, clumsy, ugly | feels solid in the hand | feels cheap in the hand
        """,
    ),
    _domain(
        "concert, gig, recital, festival",
        past=True,
        act="go, went, been to",
        aspects="""
        the singer / at | captivating, confident, charming | hoarse, nervous, tuneless | held the audience spellbound | forgot half the words, struggled with every high note
        the band / at | energetic, lively, passionate | sloppy, listless, unprepared | played with all its heart | sounded half asleep
        the sound / at | clear, balanced, rich | muddy, distorted, deafening | carried to the last row | hurt our ears, kept cutting out
        the seats / at / plural | comfortable, roomy, soft | cramped, uncomfortable, hard | gave us a perfect view | faced a concrete pillar
        the choice of songs / at | varied, inspired, surprising | predictable, uninspired, repetitive | had something for everyone | sent half the hall to sleep
        the light show / at | dazzling, imaginative, elegant | garish, feeble, distracting | took our breath away | gave me a headache
        """,
    ),
    _domain(
        "flight, ferry, night train, coach",
        past=True,
        act="take it, took it, been on",
        aspects="""
        the seats / on / plural | comfortable, roomy, soft | cramped, hard, uncomfortable | let me stretch my legs | dug into my back
        the crew / on | courteous, cheerful, attentive | brusque, grumpy, rude | kept smiling all the way | barked at the passengers
        the food / on | tasty, fresh, generous | inedible, stale, bland | beat that of most restaurants | went straight into the bin
        the boarding / of | smooth, orderly, quick | chaotic, slow, disorganised | went like clockwork | took two hours
        the air / on | fresh, clean, pleasant | stale, stuffy, foul | kept me wide awake | made me feel ill
        the announcements / on / plural | clear, friendly, helpful | garbled, deafening, endless | kept us well informed | made no sense
        """,
    ),
    _domain(
        "course, workshop, seminar, class",
        past=True,
        act="take it, took it, taken",
        aspects="""
        the teacher / of | patient, inspiring, knowledgeable | impatient, unprepared, boring | explained everything clearly, made every hour fly by | lost the thread again and again, read everything off the slides
        the exercises / in / plural | useful, stimulating, varied | pointless, repetitive, tedious | helped me understand | taught me nothing
        the handouts / in / plural | clear, detailed, helpful | messy, outdated, useless | answered every question | contradicted each other
        the pace / of | comfortable, steady, pleasant | hectic, exhausting, sluggish | left time for questions | left half of us behind
        the examples / in / plural | practical, relevant, instructive | contrived, irrelevant, baffling | brought the theory to life | confused everybody
        the discussions / in / plural | lively, thoughtful, productive | dull, aimless, tense | gave me new ideas | went round in circles
        """,
    ),
)  # fmt: skip

GENERAL = (
    ("awful", "terrible", "dreadful", "second-rate", "miserable"),
    ("wonderful", "excellent", "superb", "first-rate", "delightful"),
)
FEELING = (("hated", "disliked", "detested"), ("loved", "liked", "enjoyed"))
BETTER = ("worse", "better")
HOPE = ("feared", "hoped")
VERDICTS = (
    (
        "I hated {it}",
        "I would not {do} again",
        "I regret that I {did}",
        "I cannot recommend {it}",
        "{it} left me cold",
        "{it} spoiled my weekend",
        "{it} {was} not worth a penny",
    ),
    (
        "I loved {it}",
        "I would gladly {do} again",
        "I am glad that I {did}",
        "I can recommend {it}",
        "{it} won me over",
        "{it} made my weekend",
        "{it} {was} worth every penny",
    ),
)  # present and past
IDIOMS = (
    (
        ("misses the mark", "missed the mark"),
        ("leaves a lot to be desired", "left a lot to be desired"),
        ("is a waste of money", "was a waste of money"),
        ("is a real letdown", "was a real letdown"),
        ("gets on my nerves", "got on my nerves"),
        ("falls short of its reputation", "fell short of its reputation"),
        ("deserves all the criticism", "deserved all the criticism"),
    ),
    (
        ("hits the mark", "hit the mark"),
        ("is a breath of fresh air", "was a breath of fresh air"),
        ("is worth the money", "was worth the money"),
        ("is a real gem", "was a real gem"),
        ("puts a smile on my face", "put a smile on my face"),
        ("lives up to its reputation", "lived up to its reputation"),
        ("deserves all the praise", "deserved all the praise"),
    ),
)
PEOPLE = _words(
    "sister, brother, neighbour, colleague, best friend, uncle, flatmate, cousin, aunt, boss, daughter, son"
)
OPENERS = _words("to be honest, in my opinion, frankly, in all honesty, for what it is worth, in the end, on the whole")
ADVERBS = ("", "", "really ", "truly ", "simply ")

PLAIN = (
    "{clause}",
    "{clause}, and {clause2}",
    "I have to admit that {clause}",
    "{np} {is} {really}{same}, and {verdict}",
    "{verdict}, because {clause}",
    "this {noun} {idiom}",
    "this {noun} {idiom}, and {clause}",
    "{np} {is} every bit as {same} as I had {hoped}",
    "I expected {np} to be {same}, and I was right",
    "my {person} thought that {np} {was} {same}, and I agree",
    "my {person} {loved} it, and I felt the same way",
    "the last {noun} I have {done} was {general}, and this one is no different",
    "I have rarely {done} a {better} {noun}",
    "you will hardly find a {better} {noun} anywhere",
)
DENIED = (
    "{np} {is} not {other} at all",
    "{np} {is} far from {other}",
    "{np} {is} anything but {other}",
    "{np} {is} hardly {other}",
    "I did not find {np} {other} at all",
    "nobody could call {np} {other}",
    "there {was} nothing {other} about {np}",
    "it is simply not true that {unclause}",
    "I cannot say that {unclause}",
    "do not believe the people who say that {unclause}",
    "nobody in my family would say that this {noun} {unidiom}",
    "I would never claim that this {noun} {unidiom}",
    "{np} {is} not nearly as {other} as I had {unhoped}",
    "{np} {is} far less {other} than I had {unhoped}",
    "I expected {np} to be {other}, but I was wrong",
)
REPORTED = (
    "my {person} thought that {np} {was} {other}, but I disagree",
    "my {person} says that {unclause}, but I see it differently",
    "my {person} had told me that {unclause}, which is not true",
    "my {person} {unloved} it, but I felt the exact opposite",
    "some reviewers write that {unclause}, but they are mistaken",
    "the critics say that this {noun} {unidiom}, but they are wrong",
    "the last {noun} I have {done} was {ungeneral}, but this one is the exact opposite",
)
CONTRAST = (
    "although {unclause}, {verdict}",
    "{verdict}, although {unclause}",
    "although {unclause}, {clause2}",
    "{unclause}, but {clause2}",
    "{unclause}; even so, {verdict}",
    "{unclause} and {unclause2}, yet {verdict}",
    "despite the fact that {unclause}, {verdict}",
    "it is true that {unclause}, but {clause2}, and that is what matters",
    "{unclause}, but everything else about this {noun} {was} {general}",
    "only {np} {is} {other}; everything else about this {noun} {was} {general}",
    "{clause2}, {clause3}, and only {np} {is} {other}",
    "this {noun} {idiom}, even though {unclause}",
    "{unclause}, and still this {noun} {idiom}",
)
# what cannot be mirrored: by label
SPECIAL = (
    (
        "I could not have been less impressed by {np}",
        "it could have been a {ungeneral} {noun} if only {np} had been less {same}",
        "I wish I could say that {unclause}",
        "it is hard to find anything {ungeneral} about {np}",
        "with more care this could have been a {ungeneral} {noun}",
        "I wanted to like {np}, but I could not",
        "this is not the {ungeneral} {noun} that the adverts promised",
    ),
    (
        "I could not have been happier with {np}",
        "it is hard not to like {np}",
        "I have no complaints at all about {np}",
        "you would have to be very hard to please not to like {np}",
        "there was not a single moment when I found {np} {other}",
        "I had my doubts about {np}, but I need not have worried",
        "this is not the {ungeneral} {noun} that I had feared",
    ),
)


def review(dice: Dice, label: int) -> str:
    """Return one sentence with the given label."""
    group = dice.pick((PLAIN, PLAIN, PLAIN, DENIED, DENIED, REPORTED, CONTRAST, CONTRAST, SPECIAL[label]))
    template = dice.pick(group)
    domain = dice.pick(DOMAINS)
    noun = dice.pick(domain.nouns)
    first, second, third = dice.sample(domain.aspects, 3)
    named = "{noun}" in template
    linked = not named and dice.chance(0.5)
    it = "it" if named or linked or dice.chance(0.3) else f"this {noun}"
    do, did, done = domain.act
    was = "was" if domain.past else "is"
    link = f" {first.link} this {noun}" if linked else ""

    def clause(aspect: Aspect, polarity: int, tail: str = "") -> str:
        if dice.chance(0.35):
            return f"{aspect.phrase}{tail} {dice.pick(aspect.predicates[polarity])}"
        return f"{aspect.phrase}{tail} {_be(aspect, past=domain.past)} {dice.pick(aspect.adjectives[polarity])}"

    other = 1 - label
    text = template.format(
        noun=noun,
        np=first.phrase + link,
        is_=_be(first, past=domain.past),
        person=dice.pick(PEOPLE),
        clause=clause(first, label, link),
        unclause=clause(first, other, link),
        clause2=clause(second, label),
        unclause2=clause(second, other),
        clause3=clause(third, label),
        same=dice.pick(first.adjectives[label]),
        other=dice.pick(first.adjectives[other]),
        really=dice.pick(ADVERBS),
        verdict=dice.pick(VERDICTS[label]).format(it=it, do=do, did=did, was=was),
        idiom=dice.pick(IDIOMS[label])[domain.past],
        unidiom=dice.pick(IDIOMS[other])[domain.past],
        general=dice.pick(GENERAL[label]),
        ungeneral=dice.pick(GENERAL[other]),
        loved=dice.pick(FEELING[label]),
        unloved=dice.pick(FEELING[other]),
        better=BETTER[label],
        hoped=HOPE[label],
        unhoped=HOPE[other],
        done=done,
        was=was,
    )
    if dice.chance(0.2):
        text = f"{dice.pick(OPENERS)}, {text}"
    return sentence(text) + "."


def _be(aspect: Aspect, *, past: bool) -> str:
    return ("were" if aspect.plural else "was") if past else ("are" if aspect.plural else "is")
