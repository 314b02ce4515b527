"""Colours and sizes of what the page's library does not draw. Nothing is loaded from elsewhere, fonts neither."""

from triptych.launch.serving.page.drawing import ACCENT

FONT = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]
MONOSPACE = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]

CSS = f"""
.gradio-container {{ max-width: 1180px !important; width: 100% !important; margin: 0 auto !important; }}
.outcome {{ border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 12px !important;
  gap: 8px !important; }}
.made, .canvases {{ display: flex; flex-wrap: wrap; gap: 14px; min-height: 24px; }}
.made figure {{ margin: 0; max-width: 100%; }}
.canvases figure {{ margin: 0; flex: 1 1 120px; max-width: 256px; }}
.made figure.wide, .canvases figure.wide {{ flex: 1 1 280px; max-width: 480px; }}
.made img, .canvases img {{ image-rendering: pixelated; border-radius: 6px; display: block; max-width: 100%; }}
.made figure.wide img, .canvases img {{ width: 100%; }}
.made figure.wide img {{ max-height: 220px; }}
.made audio {{ width: 100%; margin-top: 6px; }}
.made figcaption {{ font-size: 12px; opacity: .75; margin-top: 4px; }}
.made figcaption a {{ text-decoration: underline; }}
.written {{ flex: 1 1 100%; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.55; margin: 0;
  padding: 8px 12px; border: 1px solid var(--border-color-primary); border-radius: 8px; }}
.written .hidden {{ display: inline-block; width: .95em; height: 1em; margin: 0 1px; border-radius: 3px;
  vertical-align: -2px; background: repeating-linear-gradient(45deg, #9aa4b2 0 3px, #c9d0d9 3px 6px); }}
.written .new {{ background: {ACCENT}33; border-radius: 3px; }}
.written .ended {{ opacity: .45; }}
.heading {{ font-weight: 600; }}
.count {{ font-variant-numeric: tabular-nums; margin-bottom: 8px; opacity: .8; }}
"""
