"""The page of a set, as jinja2 templates and a style sheet beside the report's. All foreign text is escaped."""

CSS = """
header h1 { overflow-wrap: anywhere }
.where { color: var(--muted); font-size: .9rem; overflow-wrap: anywhere; margin: 0 }
.verdict { display: flex; flex-wrap: wrap; gap: 10px 22px; align-items: baseline; margin: 22px 0 0; padding: 16px 20px;
  border-radius: 14px; border: 1px solid var(--line); border-left: 6px solid currentColor; background: var(--card);
  box-shadow: var(--shadow) }
.verdict b { font: 600 1.7rem/1.15 "Iowan Old Style", "Palatino Linotype", Palatino, Georgia, "Liberation Serif",
  serif }
.verdict span { color: var(--muted) }
.good { color: var(--good) } .note { color: var(--muted) } .odd { color: #a06a00 } .bad { color: var(--bad) }
@media (prefers-color-scheme: dark) { .odd { color: #e3b341 } }
.checks { list-style: none; margin: 14px 0 0; padding: 0; columns: 2 420px; column-gap: 32px }
.checks li { display: grid; grid-template-columns: 1.4em 1fr; break-inside: avoid; padding: 5px 0; line-height: 1.4 }
.checks li > i { font-style: normal; font-weight: 700 }
.checks .small { display: block }
.bar-of { fill: currentColor; opacity: .85 }
.bar-of.faint { opacity: .4 }
.lacking { fill: var(--bad) }
.samples { grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); align-items: start }
.samples.wide-text { grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)) }
.sample { padding: 14px 16px }
.sample.broken { border-color: var(--bad) }
.sample .head { display: flex; justify-content: space-between; gap: 10px; font-size: .8rem; color: var(--muted) }
.sample .head code { overflow-wrap: anywhere; color: var(--ink) }
.side { margin: 10px 0 0 }
.side .top { display: flex; justify-content: space-between; gap: 10px; font-size: .78rem; color: var(--muted) }
.side .top b { font-weight: 600 }
.side img.shown { image-orientation: none; border-radius: 6px; margin: 6px 0 0; max-height: 260px; width: auto;
  max-width: 100% }
.side img.shown.px { height: 112px; image-rendering: pixelated }
.side .prose { margin: 4px 0 0; max-height: 15em; overflow: auto; font-size: .98rem; overflow-wrap: anywhere }
.side .spectrum { height: 72px; margin-top: 6px }
.side details, .labels { margin-top: 6px; font-size: .8rem }
.side summary, .labels summary { font-weight: 400; color: var(--muted); font-size: .78rem }
.codes { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; font-size: .74rem;
  line-height: 1.7; overflow-wrap: anywhere; color: var(--muted); max-height: 12em; overflow: auto }
.codes span { display: inline-block; border: 1px solid var(--line); border-radius: 4px; padding: 0 4px; margin: 1px;
  background: var(--soft); white-space: pre-wrap }
.codes em { font-style: normal; color: var(--ink) }
.labels pre { margin-top: 6px; padding: 8px 10px; font-size: .74rem; max-height: 14em; white-space: pre-wrap;
  overflow-wrap: anywhere }
td.wrap { overflow-wrap: anywhere }
"""

SIDE = """
{%- macro codes(side) -%}
{%- for piece in side.pieces -%}{% if piece.text is not none %}<span><em>{{ piece.text|visible }}</em>
 {{ piece.code }}</span>{% else %}{{ piece.code }} {% endif %}{%- endfor -%}
{%- set rest = side.num_codes - side.pieces|length -%}
{%- if rest %} … {{ '{:,}'.format(rest) }} more{% endif -%}
{%- endmacro -%}

{%- macro shown(side) -%}
{% set medium = budget.medium(side) %}
<div class="side"><div class="top"><b class="{{ letters[side.modality] }}">{{ side.modality }}</b>
<span>{{ side.size }}</span></div>
{% if side.raw is string %}<p class="prose">{{ side.raw }}</p>{% endif %}
{% if medium and side.modality == 'image' and medium.uri %}<img class="shown{{ ' px' if medium.small }}"
 src="{{ medium.uri }}" alt="the image of this sample">{% endif %}
{% if medium and side.modality == 'audio' and medium.uri %}{% if medium.picture %}<div class="spectrum"><img
 src="{{ medium.picture }}" alt="spectrogram"></div>{% endif %}<audio controls preload="none"
 controlslist="nodownload noplaybackrate noremoteplayback" src="{{ medium.uri }}"></audio>{% endif %}
{% if medium and medium.note %}<div class="small">{{ medium.note }}</div>{% endif %}
{% if side.note %}<div class="small">{{ side.note }}</div>{% endif %}
{% if side.num_codes %}<details{{ ' open' if side.raw is none }}><summary>codes</summary>
<div class="codes">{{ codes(side) }}</div></details>{% endif %}
</div>
{%- endmacro -%}
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:">
<title>{{ title }} · triptych</title><style>{{ css }}</style></head><body>
{% from "side" import shown with context %}
<nav><div><a class="brand" href="#top"><svg viewBox="0 0 19 14" aria-hidden="true"><rect width="5" height="14" rx="1"
 fill="var(--text)"/><rect x="7" width="5" height="14" rx="1" fill="var(--image)"/><rect x="14" width="5"
 height="14" rx="1" fill="var(--audio)"/></svg>triptych</a>
{%- for id, name in sections %}<a href="#{{ id }}">{{ name }}</a>{% endfor %}</div></nav>
<header id="top"><h1>{{ title }}</h1><p class="where">{{ name }}</p>
<div class="verdict {{ level }}"><b>{{ verdict }}</b><span>{{ read }}</span></div>
<ul class="checks">{% for check in checks %}<li><i class="{{ check.level }}">{{ marks[check.level] }}</i><div>
{{ check.title }}{% if check.detail %}<span class="small">{{ check.detail }}</span>{% endif %}</div></li>
{% endfor %}</ul>
<ul class="facts">{% for value, what in facts %}<li><b>{{ value }}</b> {{ what }}</li>{% endfor %}</ul></header><main>
{% if charts %}<section id="lengths"><h2>{{ charts_title }}</h2><p class="lead">{{ charts_note }}</p>
<div class="grid charts">{% for chart in charts %}<figure class="card" style="margin:0"><figcaption>
<div class="name {{ chart.colour }}">{{ chart.name }}</div><div class="small">{{ chart.unit }}</div></figcaption>
{{ chart.svg }}</figure>{% endfor %}</div></section>{% endif %}
{% if damaged %}<section id="damaged"><h2>Damaged samples</h2><p class="lead">Found among those that were read.</p>
<div class="card scroll"><table><thead><tr><th class="r">sample</th><th>key</th><th>reason</th>
<th>what is wrong</th></tr></thead><tbody>
{% for one in damaged %}<tr><td class="r">{{ one.index }}</td><td><code>{{ one.key|plain(80) or '–' }}</code></td>
<td>{{ one.reason|plain(60) }}</td><td class="wrap">{{ one.detail|plain(300) }}</td></tr>
{% endfor %}</tbody></table></div></section>{% endif %}
{% if samples %}<section id="samples"><h2>Samples</h2><p class="lead">{{ samples_note }}</p>
<div class="grid samples{{ ' wide-text' if text_only }}">{% for one in samples %}
<div class="card sample{{ ' broken' if one.damage }}"><div class="head"><code>{{ one.key|plain(80) or '–' }}</code>
<span>#{{ one.index }}</span></div>
{% if one.damage %}<p class="bad"><b>damaged: {{ one.damage.reason|plain(60) }}</b></p>
<p class="small">{{ one.damage.detail|plain(300) }}</p>{% endif %}
{% for side in one.sides %}{{ shown(side) }}{% endfor %}
{% if one.labels %}<details class="labels"><summary>labels</summary><pre>{{ one.labels }}</pre></details>{% endif %}
</div>{% endfor %}</div></section>{% endif %}
<section id="provenance"><h2>Provenance</h2><div class="grid two"><div class="card"><dl class="listing">
{% for what, value in origin %}<dt>{{ what }}</dt><dd>{{ value }}</dd>{% endfor %}</dl></div>
<div class="card scroll"><table><thead><tr><th>member</th><th class="r">bytes</th><th class="r">a sample</th></tr>
</thead><tbody>{% for member, size, mean in members %}<tr><td><code>.{{ member|plain(40) }}</code></td><td
 class="r">{{ size }}</td><td class="r">{{ mean }}</td></tr>{% endfor %}</tbody></table></div></div>
<details class="card" style="margin-top:16px"><summary>What the manifest says of its origin (JSON)</summary>
<pre>{{ provenance }}</pre></details></section></main>
<footer class="small">Written by triptych data inspect.</footer></body></html>
"""
