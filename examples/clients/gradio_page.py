"""A page made with Gradio, over Triton's gRPC client. `pip install gradio tritonclient[grpc]`

python gradio_page.py [--triton_url localhost:8001] [--model painter] [--port 7860]

The picture grows before one's eyes: the server's previews are shown as they come.
"""

import argparse

import gradio as gr
from PIL import Image
from triton_stream import paint

parser = argparse.ArgumentParser()
parser.add_argument("--triton_url", default="localhost:8001")
parser.add_argument("--model", default="painter")
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=7860)
args = parser.parse_args()


def generate(prompt, steps):
    """Yields previews in the size of the picture, then the picture."""
    try:
        for told in paint(args.triton_url, args.model, prompt, int(steps)):
            if "generated_image" in told:
                yield Image.fromarray(told["generated_image"])
            elif "preview" in told:
                yield Image.fromarray(told["preview"]).resize((512, 512))
    except Exception as error:
        raise gr.Error(str(error)) from error


with gr.Blocks(title="nerite") as app:
    prompt = gr.Textbox(label="Prompt", placeholder="a red house in the snow at night")
    steps = gr.Slider(1, 50, value=20, step=1, label="Steps")
    button = gr.Button("Generate")
    picture = gr.Image(label="Picture", height=512, format="png")
    gr.on([button.click, prompt.submit], generate, [prompt, steps], picture, api_name="generate")

app.launch(server_name=args.host, server_port=args.port)
