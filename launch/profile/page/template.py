"""The pages of a profile and of a sweep, as jinja2 templates. Text is escaped; only our own SVG is `Markup`."""

STYLE = """
.ribbon { display: flex; height: 34px; border-radius: 8px; overflow: hidden; border: 1px solid var(--line) }
.ribbon i { display: block; min-width: 1px }
.key {
  display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 12px 0 0; padding: 0; list-style: none; font-size: .84rem;
}
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px }
.key .num { color: var(--muted) }
.k0 { background: var(--audio) }
.k1 { background: color-mix(in srgb, var(--text) 45%, var(--soft)) }
.k2 { background: var(--text) }
.k3 { background: color-mix(in srgb, var(--text) 55%, black) }
.k4 { background: var(--bad) }
.k5 { background: var(--image) }
.k6 { background: var(--grain) }
.bar div { position: relative }
.bar div u { position: absolute; top: -3px; height: 14px; width: 2px; background: var(--ink) }
.bar { grid-template-columns: 13em 1fr 12em }
.key .c-text i, .key .c-image i, .key .c-audio i, .key .c-plain i { background: currentColor }
.key span { color: var(--ink) }
@media (max-width: 720px) { .bar { grid-template-columns: 7em 1fr 8em } }
.best td { font-weight: 600 }
td.wrap { max-width: 34em; overflow-wrap: anywhere }
"""

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ title }} · triptych</title><style>{{ css }}</style></head><body>
<nav><div><a class="brand" href="#top"><svg viewBox="0 0 19 14" aria-hidden="true"><rect width="5" height="14" rx="1"
 fill="var(--text)"/><rect x="7" width="5" height="14" rx="1" fill="var(--image)"/><rect x="14" width="5" height="14"
 rx="1" fill="var(--audio)"/></svg>triptych</a>
{%- for name in sections %}<a href="#{{ name|lower }}">{{ name }}</a>{% endfor %}</div></nav>
<header id="top"><h1>{{ title }}</h1><p class="lead">{{ lead }}</p>
<ul class="facts">{% for value, what in facts %}<li><b>{{ value }}</b> {{ what }}</li>{% endfor %}</ul></header><main>
"""

FOOT = """</main><footer class="small">Written by triptych, commit <code>{{ commit }}</code>. The same numbers for
 programs: {{ json_name }}.</footer></body></html>
"""

PROFILE = """{% include "head" %}
<section id="time"><h2>Time of a step</h2><p class="lead">{{ time_note }}</p><div class="card">
<div class="ribbon" role="img" aria-label="time by part">{% for part in times %}<i class="k{{ part.colour }}"
 style="width:{{ part.width }}%" title="{{ part.name }} {{ part.text }}"></i>{% endfor %}</div>
<ul class="key">{% for part in times %}<li><i class="k{{ part.colour }}"></i>{{ part.name }}
 <span class="num">{{ part.text }}</span></li>{% endfor %}</ul></div></section>
<section id="memory"><h2>Memory of a process</h2><p class="lead">{{ memory_note }}</p><div class="card">
{% for part in memory %}<div class="bar"><span>{{ part.name }}</span><div><i style="width:{{ part.width }}%"></i>
{%- if part.tick is not none %}<u style="left:{{ part.tick }}%" title="predicted"></u>{% endif %}</div>
<span class="num">{{ part.text }}</span></div>{% endfor %}</div></section>
<section id="operations"><h2>Operations</h2><p class="lead">{{ convention }}</p><div class="card">
{% for part in rates %}<div class="bar"><span>{{ part.name }}</span><div><i style="width:{{ part.width }}%"></i></div>
<span class="num">{{ part.text }}</span></div>{% endfor %}</div></section>
{% if kernels %}<section id="kernels"><h2>Most expensive {{ kernel_word }}</h2><p class="lead">{{ kernel_note }}</p>
<div class="card scroll"><table><thead><tr><th>name</th><th>kind</th><th class="r">ms</th><th class="r">share</th>
<th class="r">calls</th></tr></thead><tbody>{% for row in kernels %}<tr>
<td class="wrap"><code>{{ row.name }}</code></td><td>{{ row.kind }}</td>
<td class="r">{{ row.milliseconds }}</td><td class="r">{{ row.share }}</td><td class="r">{{ row.calls }}</td></tr>
{% endfor %}</tbody></table></div></section>{% endif %}
<section id="run"><h2>The run</h2><div class="card"><dl class="listing">
{% for name, value in run_facts %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl></div>
<details class="card" style="margin-top:16px"><summary>All settings of the run (YAML)</summary><pre>{{ settings }}</pre>
</details></section>{% include "foot" %}"""

SWEEP = """{% include "head" %}
<section id="best"><h2>Best setting</h2><div class="card"><ul class="notes">{% for line in reasons %}<li>{{ line }}</li>
{% endfor %}</ul><pre>{{ options }}</pre></div></section>
{% if charts %}<section id="charts"><h2>Micro-batches</h2><p class="lead">Tokens a second, and GiB at most, against the
 rows at once; one line for each layout, ZeRO stage and attention.</p><div class="grid charts">
{% for chart in charts %}<div class="card">{{ chart }}</div>{% endfor %}</div>
<ul class="key">{% for colour, name in lines %}
<li class="c-{{ colour }}"><i></i><span>{{ name }}</span></li>{% endfor %}</ul></section>{% endif %}
<section id="points"><h2>All points</h2><div class="card scroll"><table><thead><tr>{% for name in columns %}
<th{% if not loop.first %} class="r"{% endif %}>{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for row in rows %}<tr{% if row.best %} class="best"{% endif %}>{% for cell in row.cells %}
<td class="{{ 'wrap' if loop.first or loop.last else 'r' }}">{{ cell }}</td>{% endfor %}</tr>{% endfor %}</tbody>
</table></div></section>{% include "foot" %}"""
