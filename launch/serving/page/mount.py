"""The page on the endpoint's application."""

from html import escape

import gradio as gr
from fastapi import FastAPI

from triptych.launch.serving.page.style import CSS, FONT, MONOSPACE
from triptych.launch.serving.page.tabs import build_tabs
from triptych.launch.serving.service import Service


def mount_page(app: FastAPI, service: Service) -> FastAPI:
    """The application with the page at /."""
    trained = service.trained
    what = f"{escape(trained.run.name)}, {trained.tokens:,} tokens, {escape(trained.weights)}"
    with gr.Blocks(title=f"triptych: {trained.run.name}", analytics_enabled=False, delete_cache=(600, 600)) as blocks:
        gr.HTML(f"<h2 style='margin:0'>triptych</h2><p>{what} &middot; <a href='/docs'>HTTP endpoint</a></p>")
        build_tabs(service)
    blocks.queue(default_concurrency_limit=service.limits.waiting + 1, api_open=False)
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=gr.themes.Default(font=FONT, font_mono=MONOSPACE),
        css=CSS,
        max_file_size=service.limits.body_bytes,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
    )
