"""A program for OpenAI's Images API: only its base URL is another. `pip install openai pillow`

python openai_images.py [http://127.0.0.1:8000/v1]
"""

import base64
import io
import sys

import openai
from PIL import Image

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
client = openai.OpenAI(base_url=url, api_key="none")

# A picture. What OpenAI does not know goes into extra_body.
answer = client.images.generate(
    prompt="a red house in the snow at night",
    response_format="b64_json",
    extra_body={"seed": 7, "steps": 8, "negative_prompt": "trees"},
)
house = base64.b64decode(answer.data[0].b64_json)
with open("house.png", "wb") as file:
    file.write(house)
print("house.png, seed", answer.data[0].seed)

# Previews while it is painted.
for event in client.images.generate(
    prompt="a yellow balloon over a meadow at dawn",
    stream=True,
    partial_images=2,
    extra_body={"steps": 8},
):
    image = Image.open(io.BytesIO(base64.b64decode(event.b64_json)))
    if event.type == "image_generation.partial_image":
        print("preview", event.partial_image_index, image.size)
    else:
        image.save("balloon.png")
        print("balloon.png", image.size)

# A picture from a picture.
answer = client.images.edit(
    image=("house.png", house, "image/png"),
    prompt="a blue house in the snow at night",
    response_format="b64_json",
    extra_body={"steps": 8, "strength": 0.7},
)
with open("blue.png", "wb") as file:
    file.write(base64.b64decode(answer.data[0].b64_json))
print("blue.png, seed", answer.data[0].seed)

# What is wrong has a class, and the name of the field.
try:
    client.images.generate(prompt="a house", size="100x100")
except openai.BadRequestError as error:
    print(f"{error.param}: {error.body['message']}")
