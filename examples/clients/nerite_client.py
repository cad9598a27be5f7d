"""nerite's own client: previews, several pictures, an edit and a job. `pip install nerite`

python nerite_client.py [127.0.0.1:8000]
"""

import sys

from nerite import Client
from nerite.client import BadRequest, Picture

with Client(sys.argv[1] if len(sys.argv) > 1 else None) as client:
    for event in client.stream("a red house in the snow at night", previews=2, steps=8):
        if isinstance(event, Picture):
            event.image.save("house.png")
            print("house.png, seed", event.seed)
        else:
            print("preview", event.number, event.image.size)

    for image in client.paint_many("a green tree in the desert", 2, seed=3, steps=8):
        image.save(f"tree-{image.info['seed']}.png")
        print(image.info["prompt"], image.info["seed"])

    blue = client.paint("a blue house", image="house.png", strength=0.7, steps=8)
    blue.save("blue.png")

    job = client.jobs.submit("a white lighthouse by the sea", steps=8)
    print("job", client.jobs.wait(job.id).status)

    try:
        client.paint("a house", size=(100, 100))
    except BadRequest as error:
        print(f"{error.param}: {error}")
