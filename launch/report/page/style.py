"""The style sheet of the report: warm paper and dark slate, one colour per modality, nothing fetched from anywhere."""

CSS = """
:root {
  color-scheme: light dark; --paper: #faf7f1; --card: #fffdf9; --ink: #221f1a; --muted: #6d665b;
  --line: #e5ded1; --soft: #f2ece1; --text: #3e54b8; --image: #b9501a; --audio: #0d746a; --plain: #5d564c;
  --good: #26743c; --bad: #b3332b; --mask: #d9d0c0; --grain: #c9bfac; --tile: invert(1); --blend: multiply;
  --shadow: 0 1px 2px rgba(60, 45, 20, .05), 0 6px 24px -12px rgba(60, 45, 20, .18);
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #121317; --card: #1a1c22; --ink: #ece7de; --muted: #9d978c; --line: #2d2f38; --soft: #22242b;
    --text: #93a4ff; --image: #f0955f; --audio: #4fc4b6; --plain: #aaa396; --good: #74cb8c; --bad: #f2857c;
    --mask: #3a3d48; --grain: #4a4e5b; --tile: none; --blend: lighten; --shadow: none;
  }
}
* { box-sizing: border-box }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100% }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
  overflow-wrap: break-word;
}
h1, h2, h3, .figure, .prose, .quote {
  font-family: "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Georgia, "Liberation Serif", serif;
}
h1 {
  font-size: clamp(2rem, 5.4vw, 3.2rem); line-height: 1.08; letter-spacing: -.015em; font-weight: 600;
  margin: .1em 0 .35em;
}
h2 {
  font-size: clamp(1.45rem, 3.2vw, 1.9rem); line-height: 1.2; font-weight: 600; letter-spacing: -.01em;
  margin: 0 0 .3em;
}
h3 { font-size: 1.06rem; font-weight: 600; margin: 1.6rem 0 .5rem }
p { margin: .3em 0 .8em }
main, header, footer { max-width: 1120px; margin: 0 auto; padding: 0 24px }
section { padding: 44px 0 0; scroll-margin-top: 36px }
.lead { color: var(--muted); max-width: 68ch }
.small { font-size: .82rem; color: var(--muted); line-height: 1.45 }
.num, td, .figure { font-variant-numeric: tabular-nums }
.t { color: var(--text) }
.i { color: var(--image) }
.a { color: var(--audio) }
nav {
  position: sticky; top: 0; z-index: 2; background: color-mix(in srgb, var(--paper) 92%, transparent);
  backdrop-filter: blur(8px); border-bottom: 1px solid var(--line);
}
nav div {
  max-width: 1120px; margin: 0 auto; padding: 0 24px; display: flex; gap: 22px; overflow-x: auto;
  scrollbar-width: none;
}
nav a { color: var(--muted); text-decoration: none; font-size: .86rem; padding: 10px 0; white-space: nowrap }
nav a:hover { color: var(--ink) }
nav a.brand {
  color: var(--ink); font-weight: 600; letter-spacing: .01em; display: flex; gap: 8px; align-items: center;
}
.brand svg { width: 19px; height: 14px }
header { padding-top: 48px }
.facts { display: flex; flex-wrap: wrap; gap: 6px 10px; margin: 18px 0 0; padding: 0; list-style: none }
.facts li {
  border: 1px solid var(--line); border-radius: 99px; padding: 3px 12px; font-size: .82rem; color: var(--muted);
  background: var(--card);
}
.facts b { color: var(--ink); font-weight: 600 }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 18px 20px;
  box-shadow: var(--shadow); min-width: 0;
}
.grid { display: grid; gap: 16px }
.cards { grid-template-columns: repeat(auto-fit, minmax(min(100%, 232px), 1fr)) }
.charts { grid-template-columns: repeat(auto-fill, minmax(min(100%, 310px), 1fr)) }
.two { grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)) }
.three { grid-template-columns: repeat(auto-fill, minmax(min(100%, 310px), 1fr)) }
.four { grid-template-columns: repeat(auto-fill, minmax(min(100%, 240px), 1fr)) }
.name { font-size: .86rem; font-weight: 600; display: flex; gap: 6px; align-items: center; flex-wrap: wrap }
.name .arrow { color: var(--muted); font-weight: 400 }
.figure { font-size: 2.7rem; line-height: 1.1; font-weight: 600; letter-spacing: -.02em; margin: .16em 0 .1em }
.figure small { font-size: 1rem; font-weight: 400; letter-spacing: 0; color: var(--muted); margin-left: .15em }
.meter { position: relative; height: 22px; margin: 8px 0 4px }
.meter:before {
  content: ""; position: absolute; left: 0; right: 0; top: 8px; height: 6px; border-radius: 3px;
  background: var(--soft); border: 1px solid var(--line);
}
.meter i { position: absolute; top: 8px; height: 6px; border-radius: 3px }
.meter .value { left: 0; background: currentColor }
.meter .interval { top: 5px; height: 12px; border-radius: 2px; background: currentColor; opacity: .28 }
.meter .tick { top: 2px; height: 18px; width: 2px; border-radius: 0; background: var(--ink); margin-left: -1px }
.meter .chance { background: var(--muted); opacity: .65 }
.wide {
  grid-column: 1/-1; display: grid; grid-template-columns: minmax(0, 232px) minmax(0, 1fr); gap: 6px 40px;
  align-items: center;
}
.pairs {
  grid-template-columns: max-content minmax(0, 1fr); font-size: .82rem; gap: 3px 12px;
  border-top: 1px solid var(--line); padding-top: 10px; margin-top: 10px;
}
.pairs dd { text-align: right; color: var(--ink) }
.what { min-height: 2.9em }
.bar {
  display: grid; grid-template-columns: 8.2em 1fr 3.1em; gap: 9px; align-items: center; font-size: .82rem;
  margin: 5px 0;
}
.bar span:first-child { color: var(--muted) }
.bar .num { text-align: right }
.bar div { height: 8px; border-radius: 4px; background: var(--soft) }
.bar div i { display: block; height: 8px; border-radius: 4px; background: var(--grain) }
.bar.own span:first-child { color: var(--ink); font-weight: 600 }
.bar.own div i { background: var(--text) }
.triptych {
  display: grid; grid-template-columns: 1.1fr .9fr 1.4fr; margin: 30px 0 0; border-radius: 16px;
  overflow: hidden; border: 1px solid var(--line); background: var(--card); box-shadow: var(--shadow);
}
.panel { padding: 22px 24px 20px; min-width: 0; display: flex; flex-direction: column; gap: 12px }
.panel + .panel { border-left: 1px solid var(--line) }
.panel .name { letter-spacing: .02em }
.panel .middle { flex: 1; display: flex; flex-direction: column; justify-content: center; min-height: 150px }
.quote { font-size: clamp(1.5rem, 3vw, 2.1rem); line-height: 1.2; margin: 0 }
.panel img.px { width: 150px; height: 150px; margin: 0 auto }
img { display: block; max-width: 100% }
img.px { image-rendering: pixelated; border-radius: 5px }
img.grey { filter: var(--tile); mix-blend-mode: var(--blend) }
.spectrum { position: relative; border-radius: 6px; overflow: hidden; background: #04030c }
.spectrum img { width: 100%; height: 100% }
.spectrum svg, .stack svg { position: absolute; inset: 0; width: 100%; height: 100% }
.masked { fill: var(--mask); stroke: var(--grain); stroke-width: .6; vector-effect: non-scaling-stroke }
audio { display: block; width: 100%; height: 34px; margin-top: 8px; border-radius: 8px }
.row { display: grid; grid-template-columns: 1fr; gap: 8px }
.tiles { display: grid; grid-template-columns: repeat(var(--n, 8), minmax(0, 54px)); gap: 7px }
.tile { text-align: center; min-width: 0 }
.tile img { width: 100%; height: auto; aspect-ratio: 1 }
.tile .ok, .tile .no { font-size: .74rem; line-height: 1.5; display: block }
.tile .frame { border-radius: 7px; padding: 2px; margin: -2px; border: 2px solid transparent }
.tile.wrong .frame { border-color: var(--bad) }
.real .tile img { padding: 0 5px }
.tag { font-size: .78rem; color: var(--muted) }
.tag.a { color: var(--audio) }
.ok { color: var(--good); font-weight: 600 }
.no { color: var(--bad); font-weight: 600 }
.split { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 14px }
.caption {
  font-family: inherit; font-size: .98rem; margin: 0 0 10px; display: flex; justify-content: space-between;
  gap: 10px;
}
.caption q { quotes: "“" "”" }
.strip { display: flex; flex-wrap: wrap; gap: 12px 14px; padding: 4px 2px 0 }
.strip figure { margin: 0; flex: none; text-align: center; font-size: .74rem; color: var(--muted) }
.stack { position: relative; width: 80px; height: 80px; margin-bottom: 5px }
.stack img { width: 100%; height: 100% }
.strip .spectrum { width: 150px; height: 76px; margin-bottom: 5px }
.strip.big { justify-content: flex-start }
.strip.big .stack { width: clamp(76px, 9.4vw, 118px); height: clamp(76px, 9.4vw, 118px) }
.strip.big .spectrum { width: clamp(130px, 13vw, 158px); height: 96px }
.steps { border-left: 2px solid var(--line); padding-left: 16px; margin: 0 }
.steps p { margin: 0 0 12px; line-height: 1.6 }
.steps .tag { display: block }
.gap {
  display: inline-block; width: 1.5em; height: .8em; border-radius: 3px; background: var(--mask); margin: 0 1px;
  vertical-align: -.03em;
}
mark {
  background: color-mix(in srgb, var(--text) 18%, transparent); color: inherit; border-radius: 3px;
  padding: 0 1px;
}
.reading { display: grid; grid-template-columns: 64px 1fr; gap: 14px; align-items: center }
.reading img.px { width: 64px; height: 64px }
.reading p, .heard p { margin: 0 }
.prose { font-size: 1.04rem; white-space: pre-wrap; margin: 0 }
.prose .prompt { color: var(--muted) }
.chart { width: 100%; height: auto; display: block; overflow: visible }
.chart text { font-size: 11px; fill: var(--muted); font-variant-numeric: tabular-nums }
.chart .end { text-anchor: end }
.chart .mid { text-anchor: middle }
.chart .grid { stroke: var(--line); fill: none; display: inline }
.chart .axis { stroke: var(--grain); fill: none }
.chart .line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
.chart .faint { stroke-width: 1; opacity: .32 }
.chart circle { fill: var(--card); stroke: currentColor; stroke-width: 2 }
.c-text { color: var(--text) }
.c-image { color: var(--image) }
.c-audio { color: var(--audio) }
.c-plain { color: var(--plain) }
.legend { display: flex; gap: 12px; font-size: .82rem; margin-left: auto }
.legend b { font-weight: 600 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th { text-align: left; color: var(--muted); font-weight: 500; font-size: .8rem }
th, td { padding: 8px 14px 8px 0; border-bottom: 1px solid var(--line); vertical-align: top }
td.r, th.r { text-align: right; white-space: nowrap }
code, pre {
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; font-size: .82rem;
}
pre {
  overflow-x: auto; background: var(--soft); border-radius: 10px; padding: 14px 16px; margin: 10px 0 0;
  line-height: 1.5;
}
summary { cursor: pointer; font-weight: 600; font-size: .92rem }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 6px 18px; margin: 0; font-size: .9rem }
dt { color: var(--muted) }
dd { margin: 0 }
.notes li { margin: 0 0 .5em; max-width: 78ch }
footer { padding-top: 48px; padding-bottom: 56px }
@media (max-width: 720px) {
  main, header, footer { padding-left: 16px; padding-right: 16px }
  nav div { padding: 0 16px; gap: 18px }
  header { padding-top: 28px }
  section { padding-top: 34px }
  .triptych { grid-template-columns: 1fr }
  .panel { padding: 16px 18px }
  .panel .middle { min-height: 0 }
  .panel + .panel { border-left: 0; border-top: 1px solid var(--line) }
  .card { padding: 15px 16px }
  .panel img.px { width: 132px; height: 132px }
  .strip { gap: 10px }
  .strip .stack { width: 54px; height: 54px }
  .strip.big .stack { width: 71px; height: 71px }
  .strip.big .spectrum { width: calc(50vw - 46px); height: 80px }
  .listing { grid-template-columns: 1fr; gap: 0 }
  .listing dd { margin-bottom: 8px }
  .what { min-height: 0 }
  .wide { grid-template-columns: minmax(0, 1fr) }
  .bar { grid-template-columns: 7.8em 1fr 3em }
}
@media print {
  nav { display: none }
  .card, .triptych { box-shadow: none; break-inside: avoid }
}
"""
