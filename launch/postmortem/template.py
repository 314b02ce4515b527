"""The page of a run that is over, as a jinja2 template and a style sheet beside the report's."""

CSS = """
header h1 { overflow-wrap: anywhere; max-width: 24em; font-size: clamp(1.7rem, 4.2vw, 2.6rem) }
.where { color: var(--muted); font-size: .9rem; overflow-wrap: anywhere; margin: 0 0 10px }
.word { font-weight: 600; letter-spacing: .01em; display: flex; align-items: center; gap: 10px }
.word:before { content: ""; width: 12px; height: 12px; border-radius: 50%; background: currentColor }
.good { color: var(--good) } .odd { color: #a06a00 } .bad { color: var(--bad) }
@media (prefers-color-scheme: dark) { .odd { color: #e3b341 } }
.verdict { border-left: 6px solid currentColor; margin-top: 18px }
.verdict dl { color: var(--ink); gap: 8px 22px }
.verdict dd { overflow-wrap: anywhere }
.findings { list-style: none; margin: 18px 0 0; padding: 0 }
.findings li { display: grid; grid-template-columns: 1.4em 1fr; padding: 5px 0; overflow-wrap: anywhere }
.findings li > i { font-style: normal; font-weight: 700 }
.findings span { color: var(--ink) }
tr.named td { background: color-mix(in srgb, var(--bad) 9%, transparent) }
td.wrap { overflow-wrap: anywhere }
td.state { white-space: nowrap }
pre { max-height: 34em; overflow: auto; white-space: pre-wrap }
details { margin: 10px 0 }
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}: what became of it</title><style>{{ css }}</style></head><body>
<nav><div><a class="brand" href="#top"><svg viewBox="0 0 19 14" aria-hidden="true"><rect width="5" height="14" rx="1"
 fill="var(--text)"/><rect x="7" width="5" height="14" rx="1" fill="var(--image)"/><rect x="14" width="5" height="14"
 rx="1" fill="var(--audio)"/></svg>triptych</a><a href="#ranks">Ranks</a><a href="#events">Events</a><a
 href="#checkpoints">Checkpoints</a>{% if stacks %}<a href="#stacks">Stacks</a>{% endif %}</div></nav>
<header id="top"><p class="where">{{ folder }}{% if name %} · {{ name }}{% endif %} · commit {{ commit }}</p>
<div class="word {{ verdict.grade }}">{{ word }}</div>
<h1>{{ verdict.headline }}</h1>
{% if facts %}<div class="card verdict {{ verdict.grade }}"><dl>
{% for name, value in facts %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}
</dl></div>{% endif %}
{% if verdict.findings %}<ul class="findings">
{% for finding in verdict.findings %}<li class="{{ finding.grade }}"><i>{{ '✗' if finding.grade == 'bad' else '!' }}</i>
<span>{{ finding.text }}</span></li>{% endfor %}
</ul>{% endif %}
</header><main>
<section id="ranks"><h2>Ranks</h2>
<p class="lead">Where each was when it last showed a sign of life. Of {{ world_size|count }}.</p>
<div class="scroll"><table><tr><th>Rank</th><th>Host</th><th class="r">Step</th><th class="r">Tokens</th><th>Phase</th>
<th>Place</th><th class="r">For</th><th class="r">Last sign (UTC)</th><th class="r">Before the last</th>
<th class="r">RAM</th><th>State</th></tr>
{% for rank in ranks %}<tr{% if rank.number == verdict.rank and verdict.grade == 'bad' %} class="named"{% endif %}>
<td>{{ rank.number }}</td><td class="wrap">{{ rank.beat.host if rank.beat else '' }}</td>
<td class="r">{{ rank.step|count }}</td><td class="r">{{ rank.tokens|count }}</td>
{% if rank.beat %}<td>{{ rank.beat.phase }}</td><td class="wrap"><code>{{ rank.beat.place }}</code></td>
<td class="r">{{ '%.0f s'|format(rank.beat.still_seconds) }}</td><td class="r">{{ rank.beat.time|when }}</td>
<td class="r">{{ '%.0f s'|format(latest - rank.beat.time) }}</td><td class="r">{{ rank.beat.resident_bytes|bytes }}</td>
{% else %}<td colspan="6">no heartbeat</td>{% endif %}
<td class="state">{{ rank.left.event if rank.left else (rank.beat.state if rank.beat else '') }}</td></tr>{% endfor %}
</table></div>{% if num_hidden %}<p class="small">{{ num_hidden|count }} more are not shown.</p>{% endif %}
</section>
{% if collectives %}<section id="collectives"><h2>Collectives</h2>
<p class="lead">What each rank began last in each of its groups, as torch's flight recorder has it.</p>
<div class="scroll"><table><tr><th>Rank</th><th>Group</th><th class="r">Number</th><th>What</th><th>Sizes</th>
<th>State</th></tr>
{% for rank, entries in collectives.items() %}{% for each in entries %}<tr><td>{{ rank }}</td>
<td class="wrap">{{ each.group }}</td><td class="r">{{ each.sequence }}</td><td>{{ each.name }}</td>
<td>{{ each.sizes }}</td><td>{{ each.state }}</td></tr>{% endfor %}{% endfor %}
</table></div></section>{% endif %}
<section id="events"><h2>Events</h2>
{% if timeline %}<div class="scroll"><table><tr><th>Time</th><th class="r">Step</th><th>Event</th><th>Ranks</th>
<th>What</th></tr>
{% for event, who, what in timeline %}<tr>
<td class="state">{{ event.get('time', '') }}</td><td class="r">{{ event.get('step', '') }}</td>
<td class="state">{{ event.event }}</td><td>{{ who }}</td><td class="wrap">{{ what }}</td></tr>{% endfor %}
</table></div>{% else %}<p class="lead">The logs have steps alone.</p>{% endif %}</section>
<section id="checkpoints"><h2>Checkpoints</h2>
{% if checkpoints %}<div class="scroll"><table><tr><th>Name</th><th class="r">Tokens</th><th class="r">Size</th>
<th>Looked at</th><th>State</th></tr>
{% for each in checkpoints %}<tr><td>{{ each.name }}</td><td class="r">{{ each.tokens|count }}</td>
<td class="r">{{ each.num_bytes|bytes }}</td><td>{{ each.checked }}</td>
<td class="wrap {{ 'bad' if each.fault else 'good' }}">{{ each.fault or 'sound' }}</td></tr>{% endfor %}
</table></div>{% else %}<p class="lead">There is none.</p>{% endif %}</section>
{% if stacks %}<section id="stacks"><h2>Stacks</h2>
<p class="lead">Every thread of each rank when it had not got on for too long.</p>
{% for rank in stacks %}<details{% if loop.first %} open{% endif %}><summary>{{ rank.name }}</summary>
<pre>{{ rank.stacks }}</pre></details>{% endfor %}</section>{% endif %}
{% if hints %}<section id="output"><h2>Launcher's output</h2><div class="scroll"><table>
<tr><th>File</th><th>Means</th><th>Line</th></tr>
{% for hint in hints %}<tr><td>{{ hint.file }}</td><td>{{ hint.meaning }}</td><td class="wrap">
<code>{{ hint.line }}</code></td></tr>{% endfor %}</table></div></section>{% endif %}
</main><footer><p class="small">Read {{ read }}{% if command %} · <code>{{ command }}</code>{% endif %}</p></footer>
</body></html>
"""
