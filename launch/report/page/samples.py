"""The parts of the page that show samples and curves; see template.py for the frame."""

SAMPLES = """
{% if data.digits %}<section id="images"><h2>Digits drawn from captions</h2>
<p class="lead">Per caption: generated images with the judge's verdict, then real scans of the same digit.
 Nothing is picked: these are all the samples that were drawn for the page.</p><div class="grid two">
{% for row in data.digits %}<div class="card"><p class="caption"><q>{{ row.caption }}</q></p>
<div class="row"><div class="tiles" style="--n:{{ [row.generated|length, 8]|min }}">{% for judged in row.generated %}
<div class="tile{{ ' wrong' if judged.verdict != row.digit }}"><div
 class="frame">{{ pixels(judged.image, 'generated for ' ~ row.caption) }}</div>
{{ verdict(row.digit, judged.verdict) }}</div>{% endfor %}</div>
{% if row.real %}<div class="real"><div class="tag">real</div>
<div class="tiles" style="--n:{{ [row.generated|length, 8]|min }}">
{% for image in row.real %}<div class="tile">{{ pixels(image, 'real scan of a ' ~ row.digit) }}</div>{% endfor %}
</div></div>{% endif %}</div></div>{% endfor %}</div></section>{% endif %}

{% if data.speech %}<section id="speech"><h2>Speech from captions</h2>
<p class="lead">Log-mel spectrograms, 0 to {{ (data.speech[0].generated.sample_rate_hertz / 2000)|round|int }} kHz
 upwards, all on one time scale. Left generated, right a real recording of the same digit.</p><div class="grid two">
{% for item in data.speech %}<div class="card"><p class="caption"><q>{{ item.caption }}</q>
<span>{{ verdict(item.digit, item.verdict) }}</span></p>
<div class="{{ 'split' if item.real }}"><div><div class="tag a">generated · {{ item.generated.seconds|fixed }} s</div>
{{ sound(item.generated, 'generated speech: ' ~ item.caption, item.generated.seconds / longest_clip) }}</div>
{% if item.real %}<div><div class="tag">real · {{ item.real.seconds|fixed }} s</div>
{{ sound(item.real, 'real recording of ' ~ item.digit, item.real.seconds / longest_clip) }}</div>{% endif %}
</div></div>{% endfor %}</div></section>{% endif %}

{% if data.readings or data.transcripts %}<section id="reading"><h2>Reading and listening</h2>
{% if data.readings %}<p class="lead">Captions for held-out images. Right means: it names the digit shown.</p>
<div class="grid four">{% for item in data.readings %}<div class="card reading">
{{ pixels(item.image, 'held-out image of a ' ~ item.digit) }}<div>
<p>“{{ item.text }}” {{ verdict(item.digit, item.named) }}</p>
<p class="small">reference: {{ item.reference }}</p></div></div>{% endfor %}</div>{% endif %}
{% if data.transcripts %}<p class="lead" style="margin-top:24px">Transcripts of recordings in held-out voices.</p>
<div class="grid three">{% for item in data.transcripts %}<div class="card heard"><p
 class="caption"><span>“{{ item.text }}”</span>
<span>{{ verdict(item.digit, item.named) }}</span></p>
{{ sound(item.clip, 'held-out recording: ' ~ item.reference, item.clip.seconds / longest_clip, 64) }}
<p class="small"
 style="margin-top:8px">said: {{ item.reference }} · {{ item.clip.seconds|fixed }} s</p></div>{% endfor %}
</div>{% endif %}
</section>{% endif %}

{% if data.unmaskings %}<section id="unmasking"><h2>From masks to a sample</h2>
<p class="lead">Every sample starts as nothing but masks; each call of the model reveals some of them, in any order.</p>
<div class="grid">{% for item in data.unmaskings %}<div class="card"><p class="caption"><span>
<span class="name {{ {'text': 't', 'image': 'i', 'audio': 'a'}.get(item.modality, '') }}">{{ item.modality }}</span>
{% if item.caption %}<q>{{ item.caption }}</q>{% endif %}</span></p>
{% if item.modality == 'text' %}<div class="steps">{% for step in item.steps %}{% set before = loop.previtem %}
<p><span class="tag">step {{ step.step }}</span>{% for piece in step.pieces %}{% if piece is none %}<i
 class="gap"></i>
{%- elif before is defined and before.pieces[loop.index0] is none %}<mark>{{ piece }}</mark>{% else %}
{{ piece }}{% endif %}
{%- endfor %}</p>{% endfor %}</div>
{% else %}<div class="strip big">{% for step in item.steps %}<figure>
{% if step.image is not none %}<div class="stack">{{ pixels(step.image, 'step ' ~ step.step) }}
{%- if step.masked is not none %}{{ cells(step.masked) }}{% endif %}</div>{% elif step.clip is not none %}
<div class="spectrum"><img src="{{ step.clip|spectrogram }}" alt="step {{ step.step }}">
{%- if step.masked is not none %}{{ cells(step.masked) }}{% endif %}</div>{% endif %}
step {{ step.step }}</figure>{% endfor %}</div>{% endif %}</div>{% endfor %}</div></section>{% endif %}

{% if data.texts %}<section id="text"><h2>Generated text</h2><div class="grid two">{% for item in data.texts %}
<div class="card"><p class="prose">{% if item.prompt %}<span class="prompt">{{ item.prompt }}</span>{% endif %}
{{ item.text }}</p>
</div>{% endfor %}</div></section>{% endif %}

{% if data.image_infillings or data.text_infillings %}<section id="infilling"><h2>Filling in</h2>
<p class="lead">The same model, given a part: the masked rest is drawn anew.</p>
<div class="grid two">{% for item in data.image_infillings %}<div class="card"><p
 class="caption"><q>{{ item.caption }}</q></p>
<div class="strip"><figure><div class="stack">{{ pixels(item.original, 'original') }}</div>original</figure>
<figure><div class="stack">{{ pixels(item.original, 'given part') }}{{ cells(item.masked) }}</div>given</figure>
{% for judged in item.filled %}<figure><div class="stack">{{ pixels(judged.image, 'filled in') }}</div>
{{ verdict(item.digit, judged.verdict) }}</figure>{% endfor %}</div></div>{% endfor %}
{% for item in data.text_infillings %}<div class="card"><p class="prose">
{%- for text, filled in item.segments %}{% if filled %}<mark>{{ text }}</mark>{% else %}{{ text }}{% endif %}
{% endfor %}</p>
<p class="small" style="margin:10px 0 0">stood there: {{ item.original }}</p></div>{% endfor %}
</div></section>{% endif %}
"""

TRAINING = """
{% if charts %}<section id="training"><h2>Training</h2>
<p class="lead">{{ charts_note }}</p><div class="grid charts">{% for chart in charts %}
<figure class="card" style="margin:0"><figcaption><div class="name {{ chart.colour }}">{{ chart.name }}
{% if chart.legend %}<span class="legend">{% for class, word in chart.legend %}
<b class="{{ class }}">{{ word }}</b>{% endfor %}</span>{% endif %}</div><div
 class="small">{{ chart.unit }}</div></figcaption>{{ chart.svg }}</figure>{% endfor %}</div></section>{% endif %}
"""
