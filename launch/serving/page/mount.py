"""The page on the endpoint's application."""

import gradio as gr
from fastapi import FastAPI

from triptych.launch.serving.service import Service


def mount_page(app: FastAPI, service: Service) -> FastAPI:
    """The application with the page at /."""
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Markdown(service.trained.run.name)
    return gr.mount_gradio_app(app, blocks, path="/")
