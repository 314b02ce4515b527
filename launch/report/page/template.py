"""The page, as jinja2 templates. Everything a model wrote passes through autoescape; only our own SVG is `Markup`."""

MACROS = """
{%- macro pixels(image, alt) -%}
<img class="px{{ ' grey' if image.ndim == 2 }}" src="{{ image|png }}" alt="{{ alt }}">
{%- endmacro -%}

{%- macro verdict(wanted, got) -%}
{%- if got == wanted -%}<span class="ok" title="judged {{ got }}, as wanted">✓</span>
{%- elif got is none or got < 0 -%}<span class="no" title="no digit, wanted {{ wanted }}">✗ ?</span>
{%- else -%}<span class="no" title="judged {{ got }}, wanted {{ wanted }}">✗ {{ got }}</span>{%- endif -%}
{%- endmacro -%}

{%- macro cells(masked) -%}
{%- set height = masked.shape[0] if masked.ndim == 2 else 1 -%}
<svg viewBox="0 0 {{ masked.shape[-1] }} {{ height }}" preserveAspectRatio="none" aria-hidden="true">
{%- for y in range(height) %}{% for x in range(masked.shape[-1]) -%}
{%- if (masked[y][x] if masked.ndim == 2 else masked[x]) -%}
<rect class="masked" x="{{ x }}" y="{{ y }}" width="1" height="1"/>
{%- endif -%}{%- endfor %}{% endfor -%}
</svg>
{%- endmacro -%}

{%- macro sound(clip, alt, share=1.0, height=84) -%}
<div class="spectrum" style="width:{{ (100 * share)|round(1) }}%;height:{{ height }}px"><img
 src="{{ clip|spectrogram }}"
 alt="spectrogram of {{ alt }}"></div>
<audio controls controlslist="nodownload noplaybackrate noremoteplayback" preload="none" src="{{ clip|wav }}"
 aria-label="{{ alt }}"></audio>
{%- endmacro -%}

{%- macro names(task) -%}
{%- for class, word in {'t2i': [('t', 'text'), ('i', 'image')], 't2s': [('t', 'text'), ('a', 'speech')],
 'i2t': [('i', 'image'), ('t', 'text')], 's2t': [('a', 'speech'), ('t', 'text')]}[task] -%}
{%- if not loop.first %} <span class="arrow">→</span> {% endif %}<span class="{{ class }}">{{ word }}</span>
{%- endfor -%}
{%- endmacro -%}
"""

HEAD = """
<nav><div><a class="brand" href="#top"><svg viewBox="0 0 19 14" aria-hidden="true"><rect width="5" height="14" rx="1"
 fill="var(--text)"/><rect x="7" width="5" height="14" rx="1" fill="var(--image)"/><rect x="14" width="5"
 height="14" rx="1"
 fill="var(--audio)"/></svg>triptych</a>
{%- for id, title in sections %}<a href="#{{ id }}">{{ title }}</a>{% endfor %}</div></nav>
<header id="top"><h1>{{ data.title }}</h1>
{% if data.summary %}<p class="lead">{{ data.summary }}</p>{% endif %}
<ul class="facts">{% for value, what in facts %}<li><b>{{ value }}</b> {{ what }}</li>{% endfor %}</ul>
{% if sample %}
<div class="triptych">
<div class="panel"><div class="name t">Text, given</div><div class="middle"><p
 class="quote">“{{ sample.row.caption }}”</p></div>
<div class="small">{{ sample.note }}</div></div>
<div class="panel"><div class="name i">Image, generated</div><div class="middle">
{{ pixels(sample.judged.image, 'image generated for ' ~ sample.row.caption) }}</div>
<div class="small">the judge sees {{ sample.judged.verdict|digit_word }}
 {{ verdict(sample.row.digit, sample.judged.verdict) }}</div></div>
<div class="panel"><div class="name a">Speech, generated</div><div class="middle">
{{ sound(sample.spoken.generated, 'speech generated for ' ~ sample.spoken.caption, 1.0, 116) }}</div>
<div class="small">“{{ sample.spoken.caption }}”: the judge hears {{ sample.spoken.verdict|digit_word }}
 {{ verdict(sample.spoken.digit, sample.spoken.verdict) }}</div></div>
</div>{% endif %}</header>
"""

NUMBERS = """
{% if cards or bars %}<section id="numbers"><h2>In numbers</h2>
<p class="lead">Bar: the share that came out right. Shaded: the 95 % interval. Ticks: chance (faint) and
 the aim (strong).</p>
<div class="grid cards">{% for card in cards %}
<div class="card {{ card.colour }}"><div class="name" style="color:var(--ink)">{{ names(card.task) }}</div>
<div class="figure" style="color:var(--ink)">{{ card.proportion.value|percent }}</div>
<div class="meter" role="img" aria-label="{{ card.proportion.value|percent }}">
<i class="value" style="width:{{ (100 * card.proportion.value)|round(2) }}%"></i>
<i class="interval"
 style="left:{{ (100 * card.low)|round(2) }}%;width:{{ (100 * (card.high - card.low))|round(2) }}%"></i>
{% if card.chance is not none %}<i class="tick chance"
 style="left:{{ (100 * card.chance)|round(2) }}%"></i>{% endif %}
{% if card.target is not none %}<i class="tick" style="left:{{ (100 * card.target)|round(2) }}%"></i>{% endif %}</div>
<div class="small what">{{ card.what }}</div><dl class="pairs num">
<dt>right</dt><dd>{{ card.proportion.successes }} of {{ card.proportion.trials }}</dd>
<dt>95 % interval</dt><dd>{{ (100 * card.low)|round|int }} – {{ card.high|percent(0) }}</dd>
{% if card.target is not none %}<dt>aim</dt><dd>{{ card.target|percent(0) }}
 {% if card.proportion.value >= card.target %}<span class="ok">reached</span>{% else %}<span
 class="no">missed</span>{% endif %}
</dd>{% endif %}
{% if card.chance is not none %}<dt>chance</dt><dd>{{ card.chance|percent(0) }}</dd>{% endif %}</dl></div>{% endfor %}
{% if bars %}<div class="card wide"><div><div class="name t">Text, bits per byte</div>
<div class="figure">{{ data.scores.text_nelbo_bits_per_byte|fixed }}<small>lower is better</small></div>
<div class="small">Held-out text. The model's is an upper bound (NELBO, fixed noise).</div></div><div>
{% for bar in bars %}<div class="bar{{ ' own' if bar.own }}"><span>{{ bar.name }}</span>
<div><i style="width:{{ (100 * bar.share)|round(2) }}%"></i></div><span
 class="num">{{ bar.value|fixed }}</span></div>{% endfor %}</div></div>{% endif %}
</div></section>{% endif %}
"""

RUN = """
{% if table %}<section id="table"><h2>All numbers</h2><div class="card scroll"><table><thead><tr><th>what</th>
<th class="r">value</th><th class="r">95 % interval</th><th class="r">trials</th><th class="r">aim</th>
<th class="r">chance</th></tr></thead><tbody>
{% for row in table %}<tr><td>{{ row.what }}<br><code class="small">{{ row.name }}</code></td><td
 class="r">{{ row.value }}</td>
<td class="r">{{ row.interval }}</td><td class="r">{{ row.trials }}</td><td class="r">{{ row.target }}</td>
<td class="r">{{ row.chance }}</td></tr>{% endfor %}</tbody></table></div></section>{% endif %}
{% if run_facts or data.run.settings_yaml %}<section id="run"><h2>The run</h2><div class="grid two"><div class="card">
<dl class="listing">
{% for name, value in run_facts %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl></div>
{% if data.run.num_parameters or data.run.stages %}<div class="card">
{% if data.run.stages %}<div class="name">Where the time went</div>
{% for name, seconds in data.run.stages.items() %}<div class="bar"><span>{{ name }}</span><div>
<i style="width:{{ (100 * seconds / longest_stage)|round(2) }}%"></i></div><span
 class="num">{{ seconds|round|int }} s</span></div>
{% endfor %}{% endif %}
{% if data.run.num_parameters %}<h3>Parameters</h3><table>{% for name, count in data.run.num_parameters.items() %}
<tr><td>{{ name }}</td><td class="r">{{ '{:,}'.format(count) }}</td></tr>{% endfor %}</table>{% endif %}
</div>{% endif %}</div>
{% if data.run.settings_yaml %}<details class="card" style="margin-top:16px">
<summary>All settings of the run (YAML)</summary>
<pre>{{ data.run.settings_yaml }}</pre></details>{% endif %}</section>{% endif %}
{% if notes %}<section id="notes"><h2>How to read this</h2><ul class="notes">
{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul></section>{% endif %}
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:">
<title>{{ data.title }} · triptych</title><style>{{ css }}</style></head><body>
{% import "macros" as m %}
{% include "head" %}<main>{% include "numbers" %}{% include "samples" %}{% include "training" %}{% include "run" %}
</main>
<footer class="small">Written by triptych{% if data.scores.commit %}
, commit <code>{{ data.scores.commit }}</code>{% endif %}.
 The same numbers for programs: report.json.</footer></body></html>
"""
